// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine that AxHive runs on, as ArceOS's platform crate.
//!
//! ArceOS calls it through `axplat`'s interfaces; the application asks
//! `machine` what was found and ends with `power_off`. One folder per
//! instruction set holds what differs, with the same file names in each.
//! Everything that reads the machine's own description (device tree, ACPI) is
//! pure and tested on the host.
//!
//! Invariant: whatever ArceOS's memory, the firmware, the device tree and the
//! initrd occupy is in `Machine::reserved`, so no guest page can alias it.
#![cfg_attr(not(test), no_std)]

pub mod acpi;
pub mod fdt;
pub mod machine;
pub mod ratio;

#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod fw_cfg;
#[cfg(target_os = "none")]
mod init;
#[cfg(target_os = "none")]
mod irq;
#[cfg(target_os = "none")]
mod mem;
#[cfg(target_os = "none")]
mod power;
#[cfg(target_os = "none")]
mod time;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
#[path = "aarch64/mod.rs"]
mod arch;
#[cfg(all(target_os = "none", target_arch = "riscv64"))]
#[path = "riscv64/mod.rs"]
mod arch;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
#[path = "x86_64/mod.rs"]
mod arch;

#[cfg(target_os = "none")]
pub use {fw_cfg::clear, init::machine, mem::flush_tlb, power::power_off};

/// How the hypervisor ends, as the process that started the machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// Everything ended well: QEMU's exit status is 0.
    Success,
    /// Something failed: QEMU's exit status is not 0.
    Failure,
}
