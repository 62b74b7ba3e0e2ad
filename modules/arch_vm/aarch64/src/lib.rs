// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtual machines on AArch64 at EL2 with VHE.
//!
//! The application links this crate as `arch` when its feature `aarch64` is selected.
#![cfg_attr(not(test), no_std)]
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

extern crate alloc;

mod exit;
mod insn;
mod irqchip;
mod psci;
mod regs;
mod stage2;
mod sysreg;
#[cfg(test)]
mod testing;
mod timer;
mod vmid;

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "aarch64";
