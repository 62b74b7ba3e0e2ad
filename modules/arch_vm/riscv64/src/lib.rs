// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The RISC-V H extension as an architecture of axvm.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]
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

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "riscv64";

extern crate alloc;
#[cfg(test)]
extern crate std;

mod fence;
mod insn;
mod irqchip;
mod regs;
mod sbi;
mod stage2;
#[cfg(test)]
mod testing;
mod trap;
mod vmid;
