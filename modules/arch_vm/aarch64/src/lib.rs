// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtual machines on AArch64 at EL2 with VHE.
//!
//! The application links this crate as `arch` when its feature `aarch64` is selected.
#![no_std]

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "aarch64";
