// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the bits of VMX's nested page tables mean: the extended ones.
//!
//! Used by `nested`. RAM is write-back, which guests may weaken by their own
//! tables; the accessed and dirty flags are the hardware's to set and mean nothing
//! here.
//!
//! Spec: Intel SDM 3, "The Extended Page Table Mechanism (EPT)".

use axvm::MappingFlags;
use bitflags::bitflags;

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
    }
}

/// What an entry has that points to a table.
pub(crate) const TABLE: u64 = Flags::READ.union(Flags::WRITE).union(Flags::EXECUTE).bits();

/// Returns what a leaf has that can be read.
pub(crate) fn leaf(flags: MappingFlags) -> u64 {
    let mut entry = Flags::READ;
    entry.set(Flags::WRITE, flags.contains(MappingFlags::WRITE));
    entry.set(Flags::EXECUTE, flags.contains(MappingFlags::EXECUTE));
    entry |= match flags {
        _ if flags.contains(MappingFlags::DEVICE) => Flags::empty(),
        _ if flags.contains(MappingFlags::UNCACHED) => Flags::WRITE_COMBINING,
        _ => Flags::WRITE_BACK,
    };
    entry.bits()
}

/// Returns what an entry allows, unless it is empty.
pub(crate) fn mapping_flags(entry: u64) -> Option<MappingFlags> {
    let entry = Flags::from_bits_retain(entry);
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
    entry.contains(Flags::READ).then_some(flags)
}
