// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Where a guest's own translation stops whose tables are not all in RAM.
//!
//! Stage 2 tells that a walk of the guest's tables failed, but not at which of
//! their levels; the bus error that real hardware would report says it. `handle`
//! asks, and that only for guests that do this. The guest may change its tables
//! meanwhile: the answer is then one that was right at some time. Nothing here
//! touches the hardware.
//!
//! Spec: Arm Architecture Reference Manual, "VMSAv8-64 translation table format
//! descriptors", TCR_EL1.

use tock_registers::LocalRegisterCopy;

use crate::regs::TCR;

/// What a guest's translation begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    pub(crate) tcr: u64,
    pub(crate) ttbr0: u64,
    pub(crate) ttbr1: u64,
}

/// One half of the addresses.
#[derive(Clone, Copy, Debug)]
struct Half {
    table: u64,
    granule_bits: u32,
    address_bits: u32,
}

const LAST_LEVEL: i8 = 3;
/// A descriptor's low bits that say that a table follows.
const IS_TABLE: u64 = 3;
/// The bit of an address that chooses the half.
const IS_HIGH: u64 = 1 << 55;
/// The largest addresses that a guest has.
const ADDRESSES: u64 = (1 << 48) - 1;
const ADDRESS_BITS: u32 = 64;
const DESCRIPTOR_BITS: u32 = 3;

impl Tables {
    /// Returns the level of the first table that `read` has not, on the way to
    /// what `address` is translated to.
    pub(crate) fn failing_level(self, address: u64, read: impl Fn(u64) -> Option<u64>) -> i8 {
        let half = self.half_of(address);
        let mut table = half.table;
        let mut level = half.first_level();
        while level < LAST_LEVEL {
            match read(half.descriptor(table, level, address)) {
                Some(descriptor) if descriptor & IS_TABLE == IS_TABLE => table = descriptor,
                _ => return level,
            }
            level = level.saturating_add(1);
        }
        LAST_LEVEL
    }

    fn half_of(self, address: u64) -> Half {
        let tcr = LocalRegisterCopy::<u64, TCR::Register>::new(self.tcr);
        let (table, unused, granule_bits) = match address & IS_HIGH {
            0 => (self.ttbr0, tcr.read(TCR::T0SZ), low_granule(tcr)),
            _ => (self.ttbr1, tcr.read(TCR::T1SZ), high_granule(tcr)),
        };
        Half {
            table,
            granule_bits,
            address_bits: ADDRESS_BITS.saturating_sub(unused as u32),
        }
    }
}

fn low_granule(tcr: LocalRegisterCopy<u64, TCR::Register>) -> u32 {
    match tcr.read_as_enum(TCR::TG0) {
        Some(TCR::TG0::Value::KiB64) => 16,
        Some(TCR::TG0::Value::KiB16) => 14,
        _ => 12,
    }
}

fn high_granule(tcr: LocalRegisterCopy<u64, TCR::Register>) -> u32 {
    match tcr.read_as_enum(TCR::TG1) {
        Some(TCR::TG1::Value::KiB64) => 16,
        Some(TCR::TG1::Value::KiB16) => 14,
        _ => 12,
    }
}

impl Half {
    /// Returns how many bits of an address each level translates.
    fn index_bits(self) -> u32 {
        self.granule_bits.saturating_sub(DESCRIPTOR_BITS)
    }

    fn first_level(self) -> i8 {
        let translated = self.address_bits.saturating_sub(self.granule_bits);
        let levels = translated.div_ceil(self.index_bits().max(1));
        4_i8.saturating_sub(levels as i8)
    }

    /// Returns where the descriptor of an address is in a table of a level, which
    /// a register or a descriptor names.
    fn descriptor(self, table: u64, level: i8, address: u64) -> u64 {
        let below = LAST_LEVEL.saturating_sub(level) as u32;
        let shift = self
            .index_bits()
            .saturating_mul(below)
            .saturating_add(self.granule_bits);
        let bits = self
            .index_bits()
            .min(self.address_bits.saturating_sub(shift));
        let index = address.wrapping_shr(shift) & mask(bits);
        let offset = index << DESCRIPTOR_BITS;
        table & ADDRESSES & !mask(bits.saturating_add(DESCRIPTOR_BITS)) | offset
    }
}

fn mask(bits: u32) -> u64 {
    1_u64.wrapping_shl(bits).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Addresses of 48 bits in both halves, of pages of 4 KiB.
    const TCR_48: u64 = 16 | 16 << 16 | 2 << 30;
    const HIGH: u64 = 0xffff_0000_0000_0000;

    fn level(tcr: u64, address: u64, memory: &[(u64, u64)]) -> i8 {
        let memory: BTreeMap<u64, u64> = memory.iter().copied().collect();
        let tables = Tables {
            tcr,
            ttbr0: 0x1_0000,
            ttbr1: 0x2_0000_0000_0001 | 0x7 << 48,
        };
        tables.failing_level(address, |at| memory.get(&at).copied())
    }

    #[test]
    fn each_level_of_the_low_half_is_told() {
        let address = 3 << 39 | 4 << 30 | 5 << 21 | 6 << 12 | 7;
        let memory = [
            (0x1_0018, 0x2_0003),
            (0x2_0020, 0x3_0003 | 1 << 59),
            (0x3_0028, 0x4_0003),
        ];
        for known in 0..=3 {
            assert_eq!(level(TCR_48, address, &memory[..known]), known as i8);
        }
    }

    #[test]
    fn the_high_half_has_tables_of_its_own() {
        assert_eq!(level(TCR_48, HIGH | 1 << 47, &[]), 0);
        let first = 0x2_0000_0000_0000 & ADDRESSES | 0x800;
        assert_eq!(level(TCR_48, HIGH | 1 << 47, &[(first, 0x5003)]), 1);
    }

    #[test]
    fn small_address_spaces_and_large_granules_begin_later() {
        // 36 bits of 4 KiB; 42 bits of 64 KiB; 47 bits of 16 KiB; 52 of 4 KiB.
        assert_eq!(level(28, 0, &[]), 1);
        assert_eq!(level(28, 0x8000_0000, &[(0x1_0010, 0x9000_0003)]), 2);
        assert_eq!(level(22 | 1 << 14, 0, &[]), 2);
        assert_eq!(level(17 | 2 << 14, 0, &[]), 1);
        assert_eq!(level(12 | 1 << 59, 0, &[]), -1);
    }

    #[test]
    fn a_walk_that_has_become_whole_ends_where_it_ends() {
        assert_eq!(level(28, 0, &[(0x1_0000, 0x4000_0001)]), 1);
    }

    proptest! {
        #[test]
        fn no_tables_panic(tcr: u64, ttbr0: u64, ttbr1: u64, address: u64, word: u64) {
            let tables = Tables { tcr, ttbr0, ttbr1 };
            let level = tables.failing_level(address, |at| (at & 8 == 0).then_some(word));
            prop_assert!(level <= 3);
        }
    }
}
