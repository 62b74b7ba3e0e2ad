// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Stage-2 page tables: VMSAv8-64 with a granule of 4 KiB.
//!
//! The format that follows from the address bits that this CPU has, and what its
//! entries look like, for axvm's [`stage2`]. Up to 43 bits a walk starts at the
//! architecture's level 1, with up to sixteen tables side by side as its root, else
//! at its level 0.
//!
//! Spec: Arm Architecture Reference Manual, "The AArch64 Virtual Memory System
//! Architecture", stage 2 descriptors.

use axvm::{
    HostPhysAddr, MappingFlags,
    stage2::{self, Entry, TableFormat},
};
use bitflags::bitflags;
use tock_registers::fields::FieldValue;

use crate::regs::VTCR;

/// The most address bits of three levels: sixteen tables side by side.
const THREE_LEVEL_BITS: usize = 43;
/// The address bits that guests are given, if the hardware has them.
const WANTED_BITS: usize = 40;

const ADDRESS_MASK: u64 = ((1 << 48) - 1) & !0xfff;
/// What distinguishes memory types: normal write-back, normal uncached, device.
const MEMORY_TYPE: u64 = 0b1111 << 2;
const WRITE_BACK: u64 = 0b1111 << 2;
const UNCACHED: u64 = 0b0101 << 2;
const DEVICE_NGNRE: u64 = 0b0001 << 2;

bitflags! {
    /// The flags of an entry.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct PteFlags: u64 {
        const VALID = 1 << 0;
        /// A table, or at level 0 a page.
        const TABLE_OR_PAGE = 1 << 1;
        /// Part of the memory type.
        const TYPE_BITS = MEMORY_TYPE;
        const READ = 1 << 6;
        const WRITE = 1 << 7;
        const INNER_SHAREABLE = 0b11 << 8;
        const ACCESSED = 1 << 10;
        const EXECUTE_NEVER = 1 << 54;
    }
}

/// A VM's stage-2 table.
pub type Stage2<H> = stage2::Stage2<H, Format>;

/// Which format of tables the hardware walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    address_bits: usize,
}

impl Format {
    /// Returns the format for a CPU whose ID_AA64MMFR0_EL1.PARange is this.
    pub fn for_pa_range(pa_range: u64) -> Self {
        let address_bits = match pa_range {
            0 => 32,
            1 => 36,
            _ => WANTED_BITS,
        };
        Self { address_bits }
    }

    /// Returns VTCR_EL2 for this format.
    pub fn vtcr(self, pa_range: u64) -> FieldValue<u64, VTCR::Register> {
        let start_level = match self.levels() {
            3 => 1,
            _ => 2,
        };
        let unused_bits = 64_u64.saturating_sub(self.address_bits as u64);
        VTCR::RES1::SET
            + VTCR::T0SZ.val(unused_bits)
            + VTCR::SL0.val(start_level)
            + VTCR::IRGN0::WriteBack
            + VTCR::ORGN0::WriteBack
            + VTCR::SH0::Inner
            + VTCR::TG0::Granule4K
            + VTCR::PS.val(pa_range)
    }
}

impl TableFormat for Format {
    fn address_bits(self) -> usize {
        self.address_bits
    }

    fn levels(self) -> usize {
        match self.address_bits {
            ..=THREE_LEVEL_BITS => 3,
            _ => 4,
        }
    }

    fn table(self, table: HostPhysAddr) -> u64 {
        let flags = PteFlags::VALID | PteFlags::TABLE_OR_PAGE;
        address_field(table) | flags.bits()
    }

    fn leaf(self, to: HostPhysAddr, flags: MappingFlags, level: usize) -> Option<u64> {
        let mut flags = leaf_flags(flags)? | PteFlags::VALID;
        flags.set(PteFlags::TABLE_OR_PAGE, level == 0);
        Some(address_field(to) | flags.bits())
    }

    fn entry(self, value: u64, level: usize) -> Entry {
        let flags = PteFlags::from_bits_truncate(value);
        let to = HostPhysAddr::from_usize((value & ADDRESS_MASK) as usize);
        if !flags.contains(PteFlags::VALID) {
            Entry::Empty
        } else if level > 0 && flags.contains(PteFlags::TABLE_OR_PAGE) {
            Entry::Table(to)
        } else {
            Entry::Leaf(to, mapping_flags(flags))
        }
    }
}

fn address_field(address: HostPhysAddr) -> u64 {
    address.as_usize() as u64 & ADDRESS_MASK
}

/// Translates permissions; a leaf must let something through.
fn leaf_flags(flags: MappingFlags) -> Option<PteFlags> {
    let memory_type = if flags.contains(MappingFlags::DEVICE) {
        DEVICE_NGNRE
    } else if flags.contains(MappingFlags::UNCACHED) {
        UNCACHED
    } else {
        WRITE_BACK
    };
    let mut pte = PteFlags::from_bits_retain(memory_type);
    pte |= PteFlags::ACCESSED | PteFlags::INNER_SHAREABLE;
    pte.set(PteFlags::READ, flags.contains(MappingFlags::READ));
    pte.set(PteFlags::WRITE, flags.contains(MappingFlags::WRITE));
    let is_executable = flags.contains(MappingFlags::EXECUTE);
    pte.set(PteFlags::EXECUTE_NEVER, !is_executable);
    let is_executable_only = is_executable && !pte.contains(PteFlags::WRITE);
    (pte.contains(PteFlags::READ) || is_executable_only).then_some(pte)
}

fn mapping_flags(pte: PteFlags) -> MappingFlags {
    let memory_type = pte.bits() & MEMORY_TYPE;
    let mut flags = MappingFlags::empty();
    flags.set(MappingFlags::READ, pte.contains(PteFlags::READ));
    flags.set(MappingFlags::WRITE, pte.contains(PteFlags::WRITE));
    let is_executable = !pte.contains(PteFlags::EXECUTE_NEVER);
    flags.set(MappingFlags::EXECUTE, is_executable);
    flags.set(MappingFlags::DEVICE, memory_type == DEVICE_NGNRE);
    flags.set(MappingFlags::UNCACHED, memory_type == UNCACHED);
    flags
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use arch_vm_host::testing::StdHost;
    use axaddrspace::{AddrSpaceError, NestedPageTableOps, PageSize};
    use axvm::GuestPhysAddr;
    use proptest::prelude::*;

    const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

    fn gpa(address: usize) -> GuestPhysAddr {
        GuestPhysAddr::from_usize(address)
    }

    fn hpa(address: usize) -> HostPhysAddr {
        HostPhysAddr::from_usize(address)
    }

    fn root_frames(format: Format) -> usize {
        stage2::root_entries(format).div_ceil(512)
    }

    proptest! {
        #[test]
        fn an_entry_says_what_was_put_in(
            page in 0_usize..1 << 36,
            bits in 0_usize..1 << 3,
            kind in prop::sample::select(vec![
                MappingFlags::empty(),
                MappingFlags::DEVICE,
                MappingFlags::UNCACHED,
            ]),
            level in 0_usize..3,
        ) {
            let format = Format::for_pa_range(2);
            let to = hpa(page << 12);
            prop_assert_eq!(format.entry(format.table(to), 1), Entry::Table(to));
            let rights = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
            let flags = kind | (MappingFlags::from_bits_truncate(bits) & rights);
            if let Some(leaf) = format.leaf(to, flags, level) {
                prop_assert_eq!(format.entry(leaf, level), Entry::Leaf(to, flags));
            }
        }
    }

    #[test]
    fn a_root_is_as_large_as_the_address_bits_need() {
        let frames = |pa_range| root_frames(Format::for_pa_range(pa_range));
        assert_eq!([frames(0), frames(1), frames(2), frames(5)], [1, 1, 2, 2]);
        let wide = Format { address_bits: 44 };
        assert_eq!((wide.levels(), root_frames(wide)), (4, 1));
    }

    #[test]
    fn addresses_beyond_2_to_39_use_the_second_table_of_the_root() {
        let host = StdHost::default();
        let mut table = Stage2::new(&host, Format::for_pa_range(5)).unwrap();
        let to = hpa(0x4000_0000);
        table.map(gpa(1 << 39), to, PageSize::Size1G, RW).unwrap();
        assert!(table.query(gpa(0)).is_err());
        assert_eq!(table.query(gpa(1 << 39)).unwrap().0, to);
        let beyond = table.map(gpa(1 << 40), hpa(0), PageSize::Size1G, RW);
        assert!(beyond.is_err());
    }

    #[test]
    fn the_hardware_is_told_the_same_format() {
        let vtcr = Format::for_pa_range(2).vtcr(2).value;
        assert_eq!(
            vtcr,
            1 << 31 | 2 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 1 << 6 | 24
        );
    }

    #[test]
    fn memory_types_survive_a_split() {
        let host = StdHost::default();
        let mut table = Stage2::new(&host, Format::for_pa_range(2)).unwrap();
        let device = RW | MappingFlags::DEVICE;
        table.map(gpa(0), hpa(0), PageSize::Size2M, device).unwrap();
        table.unmap_region(gpa(0), 4096).unwrap();
        assert_eq!(table.query(gpa(4096)).unwrap().1, device);
    }

    #[test]
    fn permissions_that_the_format_reserves_are_refused() {
        let host = StdHost::default();
        let mut table = Stage2::new(&host, Format::for_pa_range(2)).unwrap();
        for flags in [MappingFlags::empty(), MappingFlags::WRITE] {
            let mapped = table.map(gpa(0), hpa(0), PageSize::Size4K, flags);
            assert_eq!(mapped, Err(AddrSpaceError::InvalidMapping));
        }
    }
}
