// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtual machines on x86_64 with SVM or VMX.
//!
//! The application links this crate as `arch` when its feature `x86_64` is selected.
#![no_std]

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "x86_64";
