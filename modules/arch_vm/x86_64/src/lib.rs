// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtual machines on x86_64.
//!
//! The application links this crate as `arch` when its feature `x86_64` is
//! selected, makes an [`X86PerCpu`] on each CPU, and gives [`X86Vm`] to axvm. The
//! guest is never trusted: nothing that it does may panic.
//!
//! Read in this order: `vm` (the machine), `chosen` and `vcpu` (a CPU's life),
//! `backend` (SVM or VMX), `fast` and `handle` (what comes out), `emulator` and
//! `insn` (devices in memory), `interrupts` and `irqchip` (what goes in), `pc` (what
//! is around).
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

mod backend;
mod bytes;
mod chosen;
mod control_registers;
mod cpuid;
mod debug;
mod emulator;
mod ept;
mod exit;
mod extended;
mod fabric;
mod fast;
mod fetch;
mod frame;
mod frames;
mod handle;
mod insn;
mod interrupts;
mod irqchip;
mod machine;
#[cfg(all(target_arch = "x86_64", target_os = "none"))]
mod moves;
mod msr;
mod nested;
mod npt;
mod paravirt;
mod pc;
mod percpu;
mod regs;
mod rights;
mod svm;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timer;
mod vcpu;
mod vm;
mod vmx;
mod walk;

pub use chosen::{CreateConfig, X86VCpu};
pub use percpu::X86PerCpu;
pub use vm::X86Vm;

/// What the application calls this architecture's physical CPU.
pub use percpu::X86PerCpu as PerCpu;
/// What the application calls this architecture's machine.
pub use vm::X86Vm as Vm;

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "x86_64";
