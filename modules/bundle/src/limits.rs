// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Upper bounds of everything in a bundle that is counted.
//!
//! The writer keeps them and the reader refuses whatever exceeds them, so that
//! the work of `Bundle::parse` is bounded whatever the bytes say. They are
//! part of the format: raising one needs a new version (docs/bundle.md).

/// The most VM files in one bundle.
pub const MAX_VMS: usize = 256;
/// The most files that one VM file may refer to.
pub const MAX_FILES_PER_VM: usize = 64;
/// The longest name, path or reason, in bytes.
pub const MAX_NAME_SIZE: usize = 4096;
/// The size of all names, paths and reasons together, in bytes.
pub const MAX_NAMES_SIZE: usize = 4 << 20;
/// The largest VM file, in bytes.
pub const MAX_TEXT_SIZE: usize = 64 << 10;

/// The most files that all VM files together may refer to.
pub(crate) const MAX_FILES: usize = MAX_VMS * MAX_FILES_PER_VM;
/// The most bodies: one for each VM file and one for each file.
pub(crate) const MAX_BODIES: usize = MAX_VMS + MAX_FILES;
