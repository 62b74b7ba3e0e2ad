// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtual machines on RISC-V with the hypervisor extension.
//!
//! The application links this crate as `arch` when its feature `riscv64` is selected.
#![no_std]

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "riscv64";
