// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Little-endian fields of a header that may be shorter than it should be.
//!
//! Used by every parser of this folder, so that none of them indexes.

/// Returns the `N` bytes at `offset`, if there are so many.
fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// Reads a byte.
pub(super) fn le8(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

/// Reads two bytes.
pub(super) fn le16(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_le_bytes)
}

/// Reads four bytes.
pub(super) fn le32(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_le_bytes)
}

/// Reads eight bytes.
pub(super) fn le64(bytes: &[u8], offset: usize) -> Option<u64> {
    array(bytes, offset).map(u64::from_le_bytes)
}

/// Tells whether `magic` stands at `offset`.
pub(super) fn has_magic(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes
        .get(offset..)
        .is_some_and(|rest| rest.starts_with(magic))
}

/// Returns the length of some bytes in the width of guest addresses.
pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
