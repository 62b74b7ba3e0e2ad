// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtual machines on RISC-V with the hypervisor extension.
//!
//! The application links this crate as `arch` when its feature `riscv64` is
//! selected, shows [`RiscvPerCpu`] the machine's device tree, makes one on each CPU,
//! and gives [`RiscvVm`] to axvm. The guest
//! is never trusted: nothing that it does may panic.
//!
//! Read in this order: `vm` (the machine), `vcpu` (a hart's life), `entry` (the
//! world switch), `fast`, `run` and `exit` (what comes out), `sbi` (what it may call).
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod aia;
mod bank;
#[cfg_attr(
    not(all(target_arch = "riscv64", target_os = "none")),
    path = "entry_fake.rs"
)]
mod entry;
mod exit;
mod fast;
mod fdt;
mod fence;
mod files;
mod firmware;
mod flush;
mod frame;
mod harts;
mod host;
mod host_files;
mod insn;
mod interrupts;
mod irqchip;
mod mmio;
mod pending;
mod percpu;
mod regs;
mod run;
mod sbi;
mod settle;
mod stage2;
#[cfg(test)]
mod testing;
mod timer;
mod trap;
mod units;
mod vcpu;
mod vector;
mod vm;

pub use percpu::RiscvPerCpu;
pub use stage2::Stage2;
pub use vcpu::{CreateConfig, RiscvVCpu};
pub use vm::RiscvVm;

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "riscv64";

/// What the application calls this architecture's physical CPU.
pub use percpu::RiscvPerCpu as PerCpu;
/// What the application calls this architecture's machine.
pub use vm::RiscvVm as Vm;
