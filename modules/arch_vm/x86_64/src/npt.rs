// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the bits of SVM's nested page tables mean: those of long mode.
//!
//! Used by `nested`. To the nested walk every access is a user's, so that all
//! entries allow those.
//!
//! Spec: AMD64 APM 2, "Nested Paging", "Long-Mode Page Translation".

use axvm::MappingFlags;
use bitflags::bitflags;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Flags: u64 {
        const PRESENT = 1 << 0;
        const WRITE = 1 << 1;
        const USER = 1 << 2;
        const WRITE_THROUGH = 1 << 3;
        const CACHE_DISABLE = 1 << 4;
        const NO_EXECUTE = 1 << 63;
    }
}

/// What an entry has that points to a table.
pub(crate) const TABLE: u64 = Flags::PRESENT.union(Flags::WRITE).union(Flags::USER).bits();

/// Returns what a leaf has that can be read.
pub(crate) fn leaf(flags: MappingFlags) -> u64 {
    let mut entry = Flags::PRESENT | Flags::USER;
    entry.set(Flags::WRITE, flags.contains(MappingFlags::WRITE));
    entry.set(Flags::NO_EXECUTE, !flags.contains(MappingFlags::EXECUTE));
    entry.set(Flags::CACHE_DISABLE, flags.contains(MappingFlags::DEVICE));
    let is_uncached = flags.intersects(MappingFlags::DEVICE | MappingFlags::UNCACHED);
    entry.set(Flags::WRITE_THROUGH, is_uncached);
    entry.bits()
}

/// Returns what an entry allows, unless it is empty.
pub(crate) fn mapping_flags(entry: u64) -> Option<MappingFlags> {
    let entry = Flags::from_bits_retain(entry);
    let mut flags = MappingFlags::READ;
    flags.set(MappingFlags::WRITE, entry.contains(Flags::WRITE));
    flags.set(MappingFlags::EXECUTE, !entry.contains(Flags::NO_EXECUTE));
    let is_device = entry.contains(Flags::CACHE_DISABLE);
    flags.set(MappingFlags::DEVICE, is_device);
    let is_uncached = !is_device && entry.contains(Flags::WRITE_THROUGH);
    flags.set(MappingFlags::UNCACHED, is_uncached);
    entry.contains(Flags::PRESENT).then_some(flags)
}
