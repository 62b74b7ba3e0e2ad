// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! How the readers of a PC's tables reach memory.
//!
//! Used by `acpi`, `mptable`, `multiboot` and `pvh`; given by
//! `arch::x86_64::machine`. A reader asks for each byte before it looks at it.

/// Physical memory that can be read.
pub trait Physical {
    /// Returns `length` bytes at `address`, unless they cannot be reached.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;

    /// Reads a little-endian `u32`.
    fn u32(&self, address: u64) -> Option<u32> {
        u32_at(self.bytes(address, 4)?, 0)
    }

    /// Reads a little-endian `u64`.
    fn u64(&self, address: u64) -> Option<u64> {
        let bytes = self.bytes(address, 8)?;
        Some(u64::from_le_bytes(*bytes.first_chunk()?))
    }

    /// Reads text up to its terminating zero, of at most `limit` bytes.
    fn text(&self, address: u64, limit: usize) -> Option<&str> {
        let bytes = self.bytes(address, limit)?;
        let text = bytes.split(|byte| *byte == 0).next()?;
        core::str::from_utf8(text).ok()
    }
}

/// Reads a little-endian `u32` out of `bytes`.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let tail = bytes.get(offset..)?;
    Some(u32::from_le_bytes(*tail.first_chunk()?))
}

/// Tells whether all bytes add up to zero, as firmware checksums must.
pub fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
        == 0
}

#[cfg(test)]
pub mod fake {
    //! Memory made of a few byte strings, for the readers' tests.

    use super::Physical;

    /// Pieces of memory, each at its address.
    #[derive(Default)]
    pub struct Memory(pub Vec<(u64, Vec<u8>)>);

    impl Physical for Memory {
        fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
            self.0.iter().find_map(|(start, bytes)| {
                let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
                bytes.get(offset..offset.checked_add(length)?)
            })
        }
    }

    /// Sets the byte at `offset` so that all bytes add up to zero.
    pub fn seal(bytes: &mut [u8], offset: usize) {
        bytes[offset] = 0;
        let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[offset] = sum.wrapping_neg();
    }
}
