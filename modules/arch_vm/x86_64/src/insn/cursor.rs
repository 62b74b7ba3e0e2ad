// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Takes an instruction's bytes one field after the other.
//!
//! Spec: AMD64 APM 3, "Instruction Byte Order".

use axvm::AccessWidth;

/// Bytes that are taken from the front.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    taken: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    /// Returns how many bytes were taken.
    pub(super) fn taken(&self) -> u8 {
        self.taken as u8
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.taken = self.taken.saturating_add(1);
        Some(byte)
    }

    /// Returns the next byte and leaves it there.
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.taken).copied()
    }

    /// Takes a number, the lowest byte first.
    pub(super) fn number(&mut self, width: AccessWidth) -> Option<u64> {
        let mut bytes = [0; 8];
        for slot in bytes.iter_mut().take(width.size()) {
            *slot = self.byte()?;
        }
        Some(u64::from_le_bytes(bytes))
    }
}
