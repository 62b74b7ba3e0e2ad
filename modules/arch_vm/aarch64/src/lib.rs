// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtual machines on AArch64 at EL2 with VHE.
//!
//! The application links this crate as `arch` when its feature `aarch64` is
//! selected, makes an [`Aarch64PerCpu`] on each CPU, and gives [`Aarch64Vm`] to
//! axvm. The guest is never trusted: nothing that it does may panic.
//!
//! Read in this order: `vm` (the machine), `vcpu` (a CPU's life), `entry` (the
//! world switch), `fast` and `handle` (what comes out), `psci` (what it may call),
//! `irqchip` and `interrupts` (what goes in).
#![cfg_attr(not(test), no_std)]
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

mod debug;
#[cfg_attr(
    not(all(target_arch = "aarch64", target_os = "none")),
    path = "entry_fake.rs"
)]
mod entry;
mod exit;
mod fast;
mod fdt;
mod frame;
mod handle;
mod insn;
mod interrupts;
mod irqchip;
mod machine;
mod mitigations;
mod percpu;
mod psci;
mod regs;
mod smccc;
mod stage2;
mod stolen;
mod sysreg;
#[cfg(test)]
mod testing;
mod timer;
mod trng;
mod vcpu;
mod vectors;
mod vm;
mod walk;

pub use frame::TrapFrame;
pub use percpu::Aarch64PerCpu;
pub use regs::GuestSystemRegisters;
pub use stage2::Stage2;
pub use vcpu::{Aarch64VCpu, CreateConfig};
pub use vm::Aarch64Vm;

/// What the application calls this architecture's physical CPU.
pub use percpu::Aarch64PerCpu as PerCpu;
/// What the application calls this architecture's machine.
pub use vm::Aarch64Vm as Vm;

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "aarch64";
