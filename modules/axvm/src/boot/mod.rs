// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! From images to a booting machine.
//!
//! Called by each architecture's `ArchVm::boot`.

/// Why an image cannot be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The image is empty.
    #[error("the image is empty")]
    Empty,
}
