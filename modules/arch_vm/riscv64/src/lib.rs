// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtual machines on RISC-V with the hypervisor extension.
//!
//! The application links this crate as `arch` when its feature `riscv64` is
//! selected, calls [`host::init`] once with what the machine's device tree says,
//! makes a [`RiscvPerCpu`] on each CPU, and gives [`RiscvVm`] to axvm. The guest
//! is never trusted: nothing that it does may panic.
//!
//! Read in this order: `vm` (the machine), `vcpu` (a hart's life), `entry` (the
//! world switch), `exit` (what comes out), `sbi` (what it may call).
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

mod bank;
#[cfg_attr(
    not(all(target_arch = "riscv64", target_os = "none")),
    path = "entry_fake.rs"
)]
mod entry;
mod exit;
mod fdt;
mod fence;
mod frame;
mod harts;
pub mod host;
mod insn;
mod irqchip;
mod percpu;
mod regs;
mod sbi;
mod stage2;
#[cfg(test)]
mod testing;
mod timer;
mod trap;
mod vcpu;
mod vm;
mod vmid;

pub use percpu::RiscvPerCpu;
pub use stage2::Stage2;
pub use vcpu::{CreateConfig, RiscvVCpu};
pub use vm::RiscvVm;

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "riscv64";
