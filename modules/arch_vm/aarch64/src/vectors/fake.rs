// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Wide vectors of a machine that has none: nothing is loaded or stored.

/// A length for tests.
pub(super) fn length_bytes() -> usize {
    32
}

/// Loads nothing.
pub(super) fn load(_image: &[u64; super::IMAGE_WORDS]) {}

/// Stores nothing.
pub(super) fn store(_image: &mut [u64; super::IMAGE_WORDS]) {}
