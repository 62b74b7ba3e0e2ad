// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Where things are in a PC's physical memory.
//!
//! RAM is split as on QEMU's q35: up to 2.75 GiB it all lies below 4 GiB, more
//! of it leaves 2 GiB there and the rest starts at 4 GiB. The first MiB holds
//! what the loader hands over and, at its end, the firmware's tables.
//!
//! Spec: ACPI, "INT 15H, E820H - Query System Address Map"; QEMU, hw/i386/pc_q35.

use alloc::vec::Vec;

use axvm::{GuestPhysAddr, RamRegion, boot::GuestRange};

/// Where RAM below 4 GiB may end at most, if all of it is there.
const LOW_ALL_END: u64 = 0xb000_0000;
/// Where it ends if there is more.
const LOW_SPLIT_END: u64 = 0x8000_0000;
const HIGH_START: u64 = 1 << 32;
/// What stage 2 can hold.
const SPACE_END: u64 = 1 << 39;
/// The most RAM of a machine.
pub const RAM_BYTES_MAX: u64 = SPACE_END - HIGH_START + LOW_SPLIT_END;

/// What the loader hands over: descriptors, page tables, structures, command line.
pub const GDT: u64 = 0x1000;
/// The page tables of long mode: six pages.
pub const PAGE_TABLES: u64 = 0x2000;
/// The zero page, or the structure of multiboot or PVH.
pub const HANDOVER: u64 = 0x8000;
/// The kernel's command line.
pub const CMDLINE: u64 = 0x9000;
/// How much room it has, with its NUL.
pub const CMDLINE_BYTES: usize = 0x1000;
/// What Linux is told beside its zero page.
pub const SETUP_DATA: u64 = 0xa000;

/// The BIOS's data area at the end of the low 640 KiB.
pub const EBDA: u64 = 0x9_fc00;
/// Where the adapters' memory and ROMs start.
pub const LOW_END: u64 = 0xa_0000;
/// The firmware's ACPI tables.
pub const ACPI_TABLES: GuestRange = GuestRange::new(0xe_0000, 0x1_0000);
/// The firmware's MP table.
pub const MP_TABLE: GuestRange = GuestRange::new(0xf_0000, 0x1_0000);
/// Where a CPU that is reset starts, at the firmware's end.
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// Where extended memory starts.
pub const HIGH_MEMORY: u64 = 0x10_0000;
/// What no image may be loaded into.
pub const RESERVED: &[GuestRange] = &[GuestRange::new(0, HIGH_MEMORY)];

/// The page of the local APIC.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// The I/O APIC.
pub const IO_APIC: u32 = 0xfec0_0000;
/// The HPET.
pub const HPET: u32 = 0xfed0_0000;

/// Returns where so many bytes of RAM lie.
pub fn ram(memory_bytes: u64) -> Vec<RamRegion> {
    let low = match memory_bytes {
        ..=LOW_ALL_END => memory_bytes,
        _ => LOW_SPLIT_END,
    };
    [(0, low), (HIGH_START, memory_bytes.saturating_sub(low))]
        .into_iter()
        .filter(|&(_, size)| size != 0)
        .map(|(start, size)| region(start, size))
        .collect()
}

fn region(start: u64, size_bytes: u64) -> RamRegion {
    RamRegion {
        start: GuestPhysAddr::from_usize(start as usize),
        size_bytes: size_bytes as usize,
    }
}

/// What a range of the memory map is, as E820, PVH and multiboot number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryKind {
    /// RAM that the guest may use.
    Usable = 1,
    /// Anything else.
    Reserved = 2,
}

/// A range of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// The addresses.
    pub range: GuestRange,
    /// What they are.
    pub kind: MemoryKind,
}

/// Returns the memory map of a machine with this RAM, lowest first.
pub fn memory_map(ram: &[RamRegion]) -> Vec<MemoryRange> {
    let fixed = [
        (MemoryKind::Usable, 0, EBDA),
        (MemoryKind::Reserved, EBDA, LOW_END),
        (MemoryKind::Reserved, ACPI_TABLES.first(), HIGH_MEMORY),
    ];
    let usable = ram.iter().map(|&region| {
        let range = GuestRange::from(region);
        let start = range.first().max(HIGH_MEMORY);
        (MemoryKind::Usable, start, range.end())
    });
    fixed
        .into_iter()
        .chain(usable)
        .map(|(kind, start, end)| MemoryRange {
            range: GuestRange::new(start, end.saturating_sub(start)),
            kind,
        })
        .collect()
}

/// Returns how many bytes of RAM are below and how many above 4 GiB.
pub fn split(ram: &[RamRegion]) -> (u64, u64) {
    let sum = |is_high: bool| {
        ram.iter()
            .map(|&region| GuestRange::from(region))
            .filter(|range| (range.first() >= HIGH_START) == is_high)
            .fold(0u64, |sum, range| sum.saturating_add(range.size_bytes))
    };
    (sum(false), sum(true))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn starts_and_sizes(memory_bytes: u64) -> Vec<(u64, u64)> {
        ram(memory_bytes)
            .into_iter()
            .map(GuestRange::from)
            .map(|range| (range.first(), range.size_bytes))
            .collect()
    }

    #[test]
    fn ram_is_split_as_on_qemus_q35() {
        assert_eq!(starts_and_sizes(256 * MIB), [(0, 256 * MIB)]);
        assert_eq!(starts_and_sizes(2816 * MIB), [(0, 2816 * MIB)]);
        assert_eq!(
            starts_and_sizes(3 * GIB),
            [(0, 2 * GIB), (4 * GIB, GIB)],
            "more than fits below leaves 2 GiB there"
        );
    }

    #[test]
    fn the_map_keeps_the_loaders_pages_usable_and_the_firmwares_not() {
        let map = memory_map(&ram(64 * MIB));
        let kind_of = |address: u64| {
            map.iter()
                .find(|entry| entry.range.contains(address))
                .map(|entry| entry.kind)
        };
        for address in [
            0,
            GDT,
            PAGE_TABLES,
            HANDOVER,
            CMDLINE,
            SETUP_DATA,
            HIGH_MEMORY,
        ] {
            assert_eq!(kind_of(address), Some(MemoryKind::Usable), "{address:#x}");
        }
        for address in [EBDA, ACPI_TABLES.first(), MP_TABLE.first(), 0xf_ffff] {
            assert_eq!(kind_of(address), Some(MemoryKind::Reserved), "{address:#x}");
        }
        assert_eq!(kind_of(LOW_END), None);
        assert_eq!(kind_of(64 * MIB), None);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_and_no_range_overlaps(pages in 1..RAM_BYTES_MAX >> 21) {
            let memory_bytes = pages << 21;
            let ram = ram(memory_bytes);
            let (low, high) = split(&ram);
            prop_assert_eq!(low + high, memory_bytes);
            for region in &ram {
                let range = GuestRange::from(*region);
                prop_assert!(range.end() <= SPACE_END);
                let devices = [LOCAL_APIC, IO_APIC, HPET].map(u64::from);
                prop_assert!(!devices.iter().any(|&device| range.contains(device)));
            }
            let map = memory_map(&ram);
            for pair in map.windows(2) {
                prop_assert!(pair[0].range.end() <= pair[1].range.first());
            }
            let usable: u64 = map
                .iter()
                .filter(|entry| entry.kind == MemoryKind::Usable)
                .map(|entry| entry.range.size_bytes)
                .sum();
            prop_assert_eq!(usable, memory_bytes - (HIGH_MEMORY - EBDA));
        }
    }
}
