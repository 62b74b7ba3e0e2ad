// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The format of VMX's nested page tables: the extended ones.
//!
//! Four levels. RAM is write-back, which guests may weaken by their own tables;
//! the accessed and dirty flags are the hardware's to set and mean nothing here.
//!
//! Spec: Intel SDM 3, "The Extended Page Table Mechanism (EPT)".

use axvm::{
    HostPhysAddr, MappingFlags,
    stage2::{Entry, TableFormat},
};
use bitflags::bitflags;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// The levels with leaves: pages, 2 MiB, 1 GiB.
const LEVEL_2_MIB: usize = 1;
const LEVEL_1_GIB: usize = 2;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Flags: u64 {
        const READ = 1 << 0;
        const WRITE = 1 << 1;
        const EXECUTE = 1 << 2;
        /// Two of the three bits of the memory type: 1 is write-combining, 6
        /// write-back, 0 uncached.
        const WRITE_COMBINING = 1 << 3;
        const WRITE_BACK = 6 << 3;
        const LARGE = 1 << 7;
    }
}

/// Extended page tables.
#[derive(Clone, Copy, Debug)]
pub struct Extended {
    /// The CPUs have leaves of 1 GiB.
    pub(crate) has_huge_pages: bool,
}

impl TableFormat for Extended {
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
        let flags = Flags::READ | Flags::WRITE | Flags::EXECUTE;
        table.as_usize() as u64 & ADDRESS | flags.bits()
    }

    fn leaf(self, to: HostPhysAddr, flags: MappingFlags, level: usize) -> Option<u64> {
        if !flags.contains(MappingFlags::READ) {
            return None;
        }
        let mut entry = Flags::READ;
        entry.set(Flags::WRITE, flags.contains(MappingFlags::WRITE));
        entry.set(Flags::EXECUTE, flags.contains(MappingFlags::EXECUTE));
        entry |= match flags {
            _ if flags.contains(MappingFlags::DEVICE) => Flags::empty(),
            _ if flags.contains(MappingFlags::UNCACHED) => Flags::WRITE_COMBINING,
            _ => Flags::WRITE_BACK,
        };
        entry.set(Flags::LARGE, level != 0);
        Some(to.as_usize() as u64 & ADDRESS | entry.bits())
    }

    fn entry(self, value: u64, level: usize) -> Entry {
        let flags = Flags::from_bits_truncate(value);
        let address = HostPhysAddr::from_usize((value & ADDRESS) as usize);
        if !flags.contains(Flags::READ) {
            Entry::Empty
        } else if level == 0 || flags.contains(Flags::LARGE) {
            Entry::Leaf(address, mapping_flags(flags))
        } else {
            Entry::Table(address)
        }
    }
}

fn mapping_flags(entry: Flags) -> MappingFlags {
    let mut flags = MappingFlags::READ;
    flags.set(MappingFlags::WRITE, entry.contains(Flags::WRITE));
    flags.set(MappingFlags::EXECUTE, entry.contains(Flags::EXECUTE));
    if !entry.contains(Flags::WRITE_BACK) {
        let kind = match entry.contains(Flags::WRITE_COMBINING) {
            true => MappingFlags::UNCACHED,
            false => MappingFlags::DEVICE,
        };
        flags |= kind;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_gives_back_what_went_in() {
        let format = Extended {
            has_huge_pages: true,
        };
        let to = HostPhysAddr::from_usize(0x4000_0000);
        let all = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
        for flags in [
            all,
            MappingFlags::READ,
            all | MappingFlags::DEVICE,
            all | MappingFlags::UNCACHED,
        ] {
            for level in 0..=2 {
                let value = format.leaf(to, flags, level).unwrap();
                assert_eq!(format.entry(value, level), Entry::Leaf(to, flags));
            }
        }
        assert_eq!(format.entry(format.table(to), 1), Entry::Table(to));
        assert_eq!(format.entry(0, 1), Entry::Empty);
        assert_eq!(format.leaf(to, MappingFlags::WRITE, 0), None);
        let ram = format.leaf(to, all, 2).unwrap();
        assert_eq!(ram, 0x4000_0000 | 0xb7, "write-back, large");
    }
}
