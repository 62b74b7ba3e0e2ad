// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Stage-2 page tables: Sv39x4, Sv48x4, Sv57x4.
//!
//! Which of them this machine has, and what their entries look like, for axvm's
//! [`stage2`]. A root is four frames and holds 2048 entries.
//!
//! Spec: RISC-V Privileged, "H" extension, "Two-Stage Address Translation".

use axvm::{
    HostPhysAddr, MappingFlags,
    stage2::{self, Entry, TableFormat},
};
use bitflags::bitflags;
use tock_registers::fields::FieldValue;

use crate::regs::HGATP;

const PAGE_SHIFT: usize = 12;
const PPN_SHIFT: usize = 10;
const PPN_MASK: u64 = ((1 << 44) - 1) << PPN_SHIFT;

bitflags! {
    /// The flags of an entry.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct PteFlags: u64 {
        const VALID = 1 << 0;
        const READ = 1 << 1;
        const WRITE = 1 << 2;
        const EXECUTE = 1 << 3;
        /// Always one in stage 2: a guest's accesses count as user accesses.
        const USER = 1 << 4;
        const ACCESSED = 1 << 6;
        const DIRTY = 1 << 7;
        /// For software: the mapping was asked for as device memory.
        const DEVICE = 1 << 8;
        /// For software: the mapping was asked for as uncached.
        const UNCACHED = 1 << 9;
    }
}

/// A VM's stage-2 table.
pub type Stage2<H> = stage2::Stage2<H, Mode>;

/// Which format of tables the hardware walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Three levels, 41 bits.
    Sv39x4,
    /// Four levels, 50 bits.
    Sv48x4,
    /// Five levels, 59 bits.
    Sv57x4,
}

impl Mode {
    /// All of them, the smallest first.
    pub(crate) const ALL: [Self; 3] = [Self::Sv39x4, Self::Sv48x4, Self::Sv57x4];

    /// Returns the mode of a name, as the specification writes it but for case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let names = ["sv39x4", "sv48x4", "sv57x4"];
        let named = names.into_iter().zip(Self::ALL);
        named
            .into_iter()
            .find(|(own, _)| *own == name)
            .map(|(_, mode)| mode)
    }

    /// Returns the mode with so many levels.
    pub fn from_levels(levels: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.levels() == levels)
    }

    /// Returns the mode's field of hgatp.
    pub(crate) fn field(self) -> FieldValue<u64, HGATP::Register> {
        match self {
            Self::Sv39x4 => HGATP::MODE::Sv39x4,
            Self::Sv48x4 => HGATP::MODE::Sv48x4,
            Self::Sv57x4 => HGATP::MODE::Sv57x4,
        }
    }
}

impl TableFormat for Mode {
    fn address_bits(self) -> usize {
        match self {
            Self::Sv39x4 => 41,
            Self::Sv48x4 => 50,
            Self::Sv57x4 => 59,
        }
    }

    fn levels(self) -> usize {
        match self {
            Self::Sv39x4 => 3,
            Self::Sv48x4 => 4,
            Self::Sv57x4 => 5,
        }
    }

    fn table(self, table: HostPhysAddr) -> u64 {
        ppn_field(table) | PteFlags::VALID.bits()
    }

    fn leaf(self, to: HostPhysAddr, flags: MappingFlags, _level: usize) -> Option<u64> {
        Some(ppn_field(to) | leaf_flags(flags)?.bits())
    }

    fn entry(self, value: u64, _level: usize) -> Entry {
        let flags = PteFlags::from_bits_truncate(value);
        let to = address(value);
        if !flags.contains(PteFlags::VALID) {
            Entry::Empty
        } else if flags.intersects(PteFlags::READ | PteFlags::EXECUTE) {
            Entry::Leaf(to, mapping_flags(flags))
        } else {
            Entry::Table(to)
        }
    }
}

fn address(pte: u64) -> HostPhysAddr {
    let frame = (pte & PPN_MASK) >> PPN_SHIFT;
    HostPhysAddr::from_usize((frame << PAGE_SHIFT) as usize)
}

fn ppn_field(address: HostPhysAddr) -> u64 {
    (((address.as_usize() >> PAGE_SHIFT) as u64) << PPN_SHIFT) & PPN_MASK
}

/// Translates permissions; none that stage 2 cannot express are accepted.
fn leaf_flags(flags: MappingFlags) -> Option<PteFlags> {
    let mut pte = PteFlags::VALID | PteFlags::USER | PteFlags::ACCESSED | PteFlags::DIRTY;
    pte.set(PteFlags::READ, flags.contains(MappingFlags::READ));
    pte.set(PteFlags::WRITE, flags.contains(MappingFlags::WRITE));
    pte.set(PteFlags::EXECUTE, flags.contains(MappingFlags::EXECUTE));
    pte.set(PteFlags::DEVICE, flags.contains(MappingFlags::DEVICE));
    pte.set(PteFlags::UNCACHED, flags.contains(MappingFlags::UNCACHED));
    let is_readable = pte.contains(PteFlags::READ);
    let is_writable = pte.contains(PteFlags::WRITE);
    let is_executable = pte.contains(PteFlags::EXECUTE);
    // Writable only is reserved, and without any right an entry is a table.
    (is_readable || (is_executable && !is_writable)).then_some(pte)
}

fn mapping_flags(pte: PteFlags) -> MappingFlags {
    let mut flags = MappingFlags::empty();
    flags.set(MappingFlags::READ, pte.contains(PteFlags::READ));
    flags.set(MappingFlags::WRITE, pte.contains(PteFlags::WRITE));
    flags.set(MappingFlags::EXECUTE, pte.contains(PteFlags::EXECUTE));
    flags.set(MappingFlags::DEVICE, pte.contains(PteFlags::DEVICE));
    flags.set(MappingFlags::UNCACHED, pte.contains(PteFlags::UNCACHED));
    flags
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use arch_vm_host::testing::StdHost;
    use axaddrspace::{AddrSpaceError, NestedPageTableOps, PageSize};
    use axvm::{AxVCpuHal, GuestPhysAddr};
    use proptest::prelude::*;

    const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

    fn gpa(address: usize) -> GuestPhysAddr {
        GuestPhysAddr::from_usize(address)
    }

    fn hpa(address: usize) -> HostPhysAddr {
        HostPhysAddr::from_usize(address)
    }

    proptest! {
        #[test]
        fn an_entry_says_what_was_put_in(page in 0_usize..1 << 44, bits in 0_usize..1 << 5) {
            let mode = Mode::Sv39x4;
            let to = hpa(page << PAGE_SHIFT);
            prop_assert_eq!(mode.entry(mode.table(to), 1), Entry::Table(to));
            let flags = MappingFlags::from_bits_truncate(bits);
            if let Some(leaf) = mode.leaf(to, flags, 0) {
                let known = MappingFlags::READ
                    | MappingFlags::WRITE
                    | MappingFlags::EXECUTE
                    | MappingFlags::DEVICE
                    | MappingFlags::UNCACHED;
                prop_assert_eq!(mode.entry(leaf, 0), Entry::Leaf(to, flags & known));
            }
        }
    }

    #[test]
    fn a_root_is_four_frames_in_every_mode() {
        for mode in [Mode::Sv39x4, Mode::Sv48x4, Mode::Sv57x4] {
            assert_eq!(stage2::root_entries(mode), 2048);
            let host = StdHost::default();
            let table = Stage2::new(&host, mode).unwrap();
            assert_eq!(host.books(|books| books.frames), 4);
            assert!(table.root_paddr().as_usize().is_multiple_of(0x4000));
            drop(table);
            host.check();
        }
    }

    #[test]
    fn an_entry_of_the_upper_part_of_the_root_is_where_the_hardware_looks() {
        let host = StdHost::default();
        let mut table = Stage2::new(&host, Mode::Sv39x4).unwrap();
        let to = hpa(0x1_0000_0000);
        table.map(gpa(1 << 40), to, PageSize::Size1G, RW).unwrap();
        let root = host.phys_to_virt(table.root_paddr()).as_usize() as *const u64;
        // SAFETY: the root has 2048 entries and is the table's, which lives.
        let words = unsafe { core::slice::from_raw_parts(root, 2048) };
        let set: Vec<_> = (0..2048).filter(|&at| words[at] != 0).collect();
        assert_eq!(set, [1 << 10]);
        let flags = PteFlags::from_bits_truncate(words[1 << 10]);
        assert!(flags.contains(PteFlags::USER | PteFlags::ACCESSED | PteFlags::DIRTY));
    }

    #[test]
    fn permissions_that_the_format_reserves_are_refused() {
        let host = StdHost::default();
        let mut table = Stage2::new(&host, Mode::Sv39x4).unwrap();
        for flags in [MappingFlags::empty(), MappingFlags::WRITE] {
            let mapped = table.map(gpa(0), hpa(0), PageSize::Size4K, flags);
            assert_eq!(mapped, Err(AddrSpaceError::InvalidMapping));
        }
    }
}
