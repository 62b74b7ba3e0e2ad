// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! aarch64: EL1 on QEMU's `virt` machine, GICv2 or GICv3.
//!
//! Runs with an identity map of 1 GiB blocks: devices below 0x4000_0000, RAM
//! above, caches on. Entered at EL2, it goes down to EL1 first.
//!
//! Spec: Arm Architecture Reference Manual for A-profile; Linux, "Booting
//! AArch64 Linux".

pub mod console;
pub mod entry;
pub mod gic;
pub mod irq;
pub mod machine;
pub mod power;
pub mod rtc;
pub mod smp;
pub mod timer;
pub mod trap;

/// The name of the architecture.
pub const NAME: &str = "aarch64";

/// Reads a system register by name.
macro_rules! sysreg_read {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading these registers destroys nothing.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value) };
        value
    }};
}
pub(crate) use sysreg_read;

/// Writes a system register by name, effective from the next instruction on.
macro_rules! sysreg_write {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: only the vector base, the timer, single steps and the GIC's CPU
        // interface are written, whose interrupts keep all that the interrupted code uses.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value) };
    }};
}
pub(crate) use sysreg_write;
