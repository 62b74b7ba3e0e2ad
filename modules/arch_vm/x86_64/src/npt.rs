// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The format of SVM's nested page tables: those of long mode.
//!
//! Four levels, of which the upper two and the leaves' one have large leaves.
//! To the nested walk every access is a user's, so that all entries allow those.
//!
//! Spec: AMD64 APM 2, "Nested Paging", "Long-Mode Page Translation".

use axvm::{
    HostPhysAddr, MappingFlags,
    stage2::{Entry, TableFormat},
};
use bitflags::bitflags;

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Flags: u64 {
        const PRESENT = 1 << 0;
        const WRITE = 1 << 1;
        const USER = 1 << 2;
        const WRITE_THROUGH = 1 << 3;
        const CACHE_DISABLE = 1 << 4;
        const LARGE = 1 << 7;
        const NO_EXECUTE = 1 << 63;
    }
}

/// Nested page tables.
#[derive(Clone, Copy, Debug)]
pub struct LongMode;

impl TableFormat for LongMode {
    fn address_bits(self) -> usize {
        48
    }

    fn levels(self) -> usize {
        4
    }

    fn table(self, table: HostPhysAddr) -> u64 {
        let flags = Flags::PRESENT | Flags::WRITE | Flags::USER;
        table.as_usize() as u64 & ADDRESS | flags.bits()
    }

    fn leaf(self, to: HostPhysAddr, flags: MappingFlags, level: usize) -> Option<u64> {
        if !flags.contains(MappingFlags::READ) {
            return None;
        }
        let mut entry = Flags::PRESENT | Flags::USER;
        entry.set(Flags::WRITE, flags.contains(MappingFlags::WRITE));
        entry.set(Flags::NO_EXECUTE, !flags.contains(MappingFlags::EXECUTE));
        entry.set(Flags::CACHE_DISABLE, flags.contains(MappingFlags::DEVICE));
        let is_uncached = flags.intersects(MappingFlags::DEVICE | MappingFlags::UNCACHED);
        entry.set(Flags::WRITE_THROUGH, is_uncached);
        entry.set(Flags::LARGE, level != 0);
        Some(to.as_usize() as u64 & ADDRESS | entry.bits())
    }

    fn entry(self, value: u64, level: usize) -> Entry {
        let flags = Flags::from_bits_retain(value);
        let address = HostPhysAddr::from_usize((value & ADDRESS) as usize);
        if !flags.contains(Flags::PRESENT) {
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
    flags.set(MappingFlags::EXECUTE, !entry.contains(Flags::NO_EXECUTE));
    let is_device = entry.contains(Flags::CACHE_DISABLE);
    flags.set(MappingFlags::DEVICE, is_device);
    let is_uncached = !is_device && entry.contains(Flags::WRITE_THROUGH);
    flags.set(MappingFlags::UNCACHED, is_uncached);
    flags
}
