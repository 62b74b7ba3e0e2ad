// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtual machines on the generic host profile, a software architecture for cargo test.
//!
//! The application links this crate as `arch` when its feature `host` is selected.
#![no_std]

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "host";
