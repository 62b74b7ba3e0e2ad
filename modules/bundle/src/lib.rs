// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Bundles: one file that holds VM files and every file they refer to.
//!
//! The host CLI writes a bundle ([`Writer`], feature `write`), QEMU hands it
//! over as an initrd or a multiboot module, and the hypervisor reads it in
//! place ([`Bundle::parse`]). Invariant: once `parse` has accepted the bytes,
//! every name, table entry and body range is in bounds and no two of them
//! contradict each other; only the bodies' checksums are left, and those are
//! checked by the call that hands the bytes out ([`File::bytes`]).
//!
//! Spec: docs/bundle.md.
#![cfg_attr(not(any(test, feature = "write")), no_std)]
#![forbid(unsafe_code)]
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

mod check;
mod checksum;
mod error;
mod layout;
mod limits;
mod read;
#[cfg(any(test, feature = "write"))]
mod write;

pub use error::{BundleError, FileError};
pub use layout::{BODY_ALIGN, MAGIC, VERSION};
pub use limits::{MAX_FILES_PER_VM, MAX_NAME_SIZE, MAX_NAMES_SIZE, MAX_TEXT_SIZE, MAX_VMS};
pub use read::{Body, Bundle, File, Files, VmEntry, Vms};
#[cfg(any(test, feature = "write"))]
pub use write::{FileInput, FileSource, VmInput, WriteError, Writer};

#[cfg(test)]
mod hostile_tests;
