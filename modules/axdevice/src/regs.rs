// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Register layouts of the device models, and nothing else.
//!
//! Every shift and mask of this crate is below this module: one file per
//! device, fields in the order of its manual. Here are the few things that all
//! share: what an access of a width can carry, and 64-bit values in two halves.

pub mod goldfish_rtc;
pub mod hpet;
pub mod i8254;
pub mod ns16550;
pub mod pl011;
pub mod pl031;
pub mod sifive_test;

use crate::AccessWidth;

/// Tells whether an access at `offset` is naturally aligned.
pub fn is_aligned(offset: u64, width: AccessWidth) -> bool {
    offset & low_bits(width) == 0
}

/// The offset's bits that an aligned access has clear.
const fn low_bits(width: AccessWidth) -> u64 {
    match width {
        AccessWidth::Byte => 0,
        AccessWidth::Word => 1,
        AccessWidth::Dword => 3,
        AccessWidth::Qword => 7,
    }
}

/// Keeps the bits of `value` that an access of `width` carries.
pub fn truncate(value: u64, width: AccessWidth) -> u64 {
    match width {
        AccessWidth::Byte => value & 0xff,
        AccessWidth::Word => value & 0xffff,
        AccessWidth::Dword => value & 0xffff_ffff,
        AccessWidth::Qword => value,
    }
}

/// Returns the low half of a 64-bit value.
pub fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

/// Returns the high half of a 64-bit value.
pub fn high_half(value: u64) -> u32 {
    (value >> 32) as u32
}

/// Puts a 64-bit value together from its halves.
pub fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Returns byte `lane` of `value`, the lowest being 0.
pub fn byte_lane(value: u64, lane: usize) -> u8 {
    value.to_le_bytes().get(lane).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_is_natural() {
        for (width, size) in crate::testing::WIDTHS {
            for offset in 0..32 {
                assert_eq!(is_aligned(offset, width), offset % size == 0);
            }
        }
    }

    #[test]
    fn truncation_keeps_the_low_bytes() {
        let value = 0x8877_6655_4433_2211;
        assert_eq!(truncate(value, AccessWidth::Byte), 0x11);
        assert_eq!(truncate(value, AccessWidth::Word), 0x2211);
        assert_eq!(truncate(value, AccessWidth::Dword), 0x4433_2211);
        assert_eq!(truncate(value, AccessWidth::Qword), value);
    }

    #[test]
    fn halves_and_lanes_put_a_value_together() {
        let value = 0x8877_6655_4433_2211;
        assert_eq!(join(low_half(value), high_half(value)), value);
        assert_eq!(byte_lane(value, 0), 0x11);
        assert_eq!(byte_lane(value, 7), 0x88);
        assert_eq!(byte_lane(value, 8), 0);
    }
}
