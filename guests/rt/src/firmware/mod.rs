// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Readers of what firmware leaves in memory: device tree, ACPI, boot records.
//!
//! Called by `arch::*::machine`. All are functions of bytes and are tested on the
//! host. A table that is absent or damaged
//! reads as `None`; no reader trusts a length without asking for its bytes.

#[cfg(any(test, target_arch = "x86_64"))]
pub mod acpi;
#[cfg(any(test, target_arch = "aarch64"))]
pub mod arm;
#[cfg(any(test, not(target_arch = "x86_64")))]
pub mod fdt;
#[cfg(any(test, target_arch = "x86_64"))]
pub mod mptable;
#[cfg(any(test, target_arch = "x86_64"))]
pub mod multiboot;
#[cfg(any(test, target_arch = "x86_64"))]
pub mod physical;
#[cfg(any(test, target_arch = "x86_64"))]
pub mod pvh;
