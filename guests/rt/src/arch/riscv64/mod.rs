// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! riscv64: supervisor mode under an SBI firmware, QEMU's `virt` machine.
//!
//! Runs with `satp` bare, as entered, so that every address is physical.
//! A supervisor of a virtual machine (VS mode) sees no difference.
//!
//! Spec: RISC-V Privileged, "Supervisor-Level ISA"; RISC-V SBI 2.0.

pub mod console;
pub mod entry;
pub mod irq;
pub mod machine;
pub mod power;
pub mod rtc;
pub mod smp;
pub mod timer;
pub mod trap;

/// The name of the architecture.
pub const NAME: &str = "riscv64";

/// Reads a CSR by name.
macro_rules! csr_read {
    ($name:literal) => {{
        let value: usize;
        // SAFETY: reading this CSR has no side effect.
        unsafe { core::arch::asm!(concat!("csrr {}, ", $name), out(reg) value) };
        value
    }};
}
pub(crate) use csr_read;

/// Runs `csrw`, `csrs` or `csrc` on a CSR by name.
macro_rules! csr {
    ($operation:literal, $name:literal, $value:expr) => {{
        let value: usize = $value;
        // SAFETY: only interrupt enables, pending bits and the trap vector are
        // written, whose handlers keep all that the interrupted code uses.
        unsafe { core::arch::asm!(concat!($operation, " ", $name, ", {}"), in(reg) value) };
    }};
}
pub(crate) use csr;
