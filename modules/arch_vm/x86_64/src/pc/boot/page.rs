// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One page of a structure that is mostly zeros, written field by field.
//!
//! Used by the protocols' files for structures that are defined by offsets.
//! Fields outside of the page are a mistake of ours and are left out.

use alloc::{vec, vec::Vec};

const PAGE_BYTES: usize = 4096;

/// A page that starts as zeros.
pub(super) struct Page(Vec<u8>);

impl Page {
    pub(super) fn new() -> Self {
        Self(vec![0; PAGE_BYTES])
    }

    /// Writes bytes at an offset.
    pub(super) fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        let slot = self.0.get_mut(offset..end);
        debug_assert!(slot.is_some(), "{offset:#x} is outside of the page");
        if let Some(slot) = slot {
            slot.copy_from_slice(bytes);
        }
    }

    /// Writes a byte.
    pub(super) fn u8(&mut self, offset: usize, value: u8) {
        self.put(offset, &[value]);
    }

    /// Writes four bytes.
    pub(super) fn u32(&mut self, offset: usize, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    /// Writes eight bytes.
    pub(super) fn u64(&mut self, offset: usize, value: u64) {
        self.put(offset, &value.to_le_bytes());
    }

    /// Returns the page's bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
