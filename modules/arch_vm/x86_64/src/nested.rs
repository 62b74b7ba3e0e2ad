// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The format of nested page tables that this machine's hardware reads.
//!
//! SVM's and VMX's have the same shape: four levels, a large leaf's bit, the
//! place of the address. What the other bits mean is in `npt` and `ept`.
//!
//! Spec: AMD64 APM 2, "Long-Mode Page Translation"; Intel SDM 3, "The Extended Page
//! Table Mechanism (EPT)".

use axvm::{
    HostPhysAddr, MappingFlags,
    stage2::{Entry, TableFormat},
};

use crate::{ept, npt};

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The entry of an upper level is a leaf.
const LARGE: u64 = 1 << 7;
/// The levels with large leaves.
const LEVEL_2_MIB: usize = 1;
const LEVEL_1_GIB: usize = 2;

/// Whose bits the entries have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    /// SVM's: those of long mode.
    LongMode,
    /// VMX's: the extended ones.
    Extended,
}

/// The format.
#[derive(Clone, Copy, Debug)]
pub struct Nested {
    pub(crate) bits: Bits,
    /// The CPUs have leaves of 1 GiB.
    pub(crate) has_huge_pages: bool,
}

fn place(address: HostPhysAddr) -> u64 {
    address.as_usize() as u64 & ADDRESS
}

impl TableFormat for Nested {
    fn address_bits(self) -> usize {
        48
    }

    fn levels(self) -> usize {
        4
    }

    fn largest_leaf(self) -> usize {
        match self.has_huge_pages {
            true => LEVEL_1_GIB,
            false => LEVEL_2_MIB,
        }
    }

    fn table(self, table: HostPhysAddr) -> u64 {
        place(table)
            | match self.bits {
                Bits::LongMode => npt::TABLE,
                Bits::Extended => ept::TABLE,
            }
    }

    fn leaf(self, to: HostPhysAddr, flags: MappingFlags, level: usize) -> Option<u64> {
        if !flags.contains(MappingFlags::READ) {
            return None;
        }
        let bits = match self.bits {
            Bits::LongMode => npt::leaf(flags),
            Bits::Extended => ept::leaf(flags),
        };
        let size = if level == 0 { 0 } else { LARGE };
        Some(place(to) | bits | size)
    }

    fn entry(self, value: u64, level: usize) -> Entry {
        let flags = match self.bits {
            Bits::LongMode => npt::mapping_flags(value),
            Bits::Extended => ept::mapping_flags(value),
        };
        let address = HostPhysAddr::from_usize((value & ADDRESS) as usize);
        match flags {
            None => Entry::Empty,
            Some(flags) if level == 0 || value & LARGE != 0 => Entry::Leaf(address, flags),
            Some(_) => Entry::Table(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: MappingFlags = MappingFlags::READ
        .union(MappingFlags::WRITE)
        .union(MappingFlags::EXECUTE);

    fn format(bits: Bits) -> Nested {
        Nested {
            bits,
            has_huge_pages: true,
        }
    }

    #[test]
    fn an_entry_gives_back_what_went_in() {
        let to = HostPhysAddr::from_usize(0x4000_0000);
        for format in [Bits::LongMode, Bits::Extended].map(format) {
            for flags in [
                ALL,
                MappingFlags::READ,
                MappingFlags::READ | MappingFlags::EXECUTE,
                ALL | MappingFlags::DEVICE,
                ALL | MappingFlags::UNCACHED,
            ] {
                for level in 0..=2 {
                    let value = format.leaf(to, flags, level).unwrap();
                    assert_eq!(format.entry(value, level), Entry::Leaf(to, flags));
                }
            }
            assert_eq!(format.entry(format.table(to), 1), Entry::Table(to));
            assert_eq!(format.entry(0, 1), Entry::Empty);
            assert_eq!(format.leaf(to, MappingFlags::WRITE, 0), None);
        }
    }

    #[test]
    fn ram_is_what_the_manuals_say() {
        let to = HostPhysAddr::from_usize(0x4000_0000);
        let leaf = |bits| format(bits).leaf(to, ALL, 2);
        assert_eq!(
            leaf(Bits::Extended),
            Some(0x4000_0000 | 0xb7),
            "write-back, large"
        );
        assert_eq!(
            leaf(Bits::LongMode),
            Some(0x4000_0000 | 0x87),
            "user, large"
        );
    }
}
