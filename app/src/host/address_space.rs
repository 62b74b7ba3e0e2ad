// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The hypervisor's own address space.
//!
//! ArceOS maps what it uses itself. The hypervisor reaches all RAM, so it has a
//! table of its own with the same linear layout: the image with its
//! permissions, devices, and guest memory in large leaves, never executable.
//! Each CPU changes over once, before it runs a guest.

#![expect(
    clippy::expect_used,
    reason = "runs once at boot, on values of the machine alone"
)]

use axhal::{
    mem::{self, MemRegionFlags, PhysMemRegion},
    paging::{MappingFlags, PageTable},
};
use platform::machine::PhysRange;
use spin::Once;

const PAGE_BYTES: usize = 4096;

static TABLE: Once<PageTable> = Once::new();

/// Builds the table over ArceOS's own regions and `ram`.
pub(super) fn init(ram: &[PhysRange]) {
    TABLE.call_once(|| {
        let mut table = PageTable::try_new().expect("ArceOS's heap has room for one table");
        for region in mem::memory_regions() {
            map(&mut table, own_range(&region), flags_of(region.flags));
        }
        for range in ram {
            map(&mut table, *range, MappingFlags::READ | MappingFlags::WRITE);
        }
        table
    });
}

/// Changes the calling CPU over to the table.
#[expect(unsafe_code, reason = "installs the page table")]
pub(super) fn enter() {
    let Some(table) = TABLE.get() else { return };
    // SAFETY: the table lives for ever and maps everything that ArceOS's own
    // table maps, at the same addresses and with the same permissions.
    unsafe { axhal::asm::write_kernel_page_table(table.root_paddr()) };
    platform::flush_tlb();
}

fn own_range(region: &PhysMemRegion) -> PhysRange {
    PhysRange::from_size(region.paddr.as_usize(), region.size)
}

/// Maps the pages that a range touches; ranges do not share pages.
fn map(table: &mut PageTable, range: PhysRange, flags: MappingFlags) {
    let start = range.start & !PAGE_BYTES.wrapping_sub(1);
    let end = range.end.next_multiple_of(PAGE_BYTES);
    table
        .cursor()
        .map_region(
            mem::phys_to_virt(start.into()),
            mem::virt_to_phys,
            end.saturating_sub(start),
            flags,
            true,
        )
        .expect("ArceOS's heap has room for the tables of all RAM");
}

fn flags_of(region: MemRegionFlags) -> MappingFlags {
    let pairs = [
        (MemRegionFlags::READ, MappingFlags::READ),
        (MemRegionFlags::WRITE, MappingFlags::WRITE),
        (MemRegionFlags::EXECUTE, MappingFlags::EXECUTE),
        (MemRegionFlags::DEVICE, MappingFlags::DEVICE),
        (MemRegionFlags::UNCACHED, MappingFlags::UNCACHED),
    ];
    pairs
        .into_iter()
        .filter(|(from, _)| region.contains(*from))
        .fold(MappingFlags::empty(), |flags, (_, to)| flags | to)
}
