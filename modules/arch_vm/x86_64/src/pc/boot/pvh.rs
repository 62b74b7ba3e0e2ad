// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! PVH: the start information, and 32-bit protected mode.
//!
//! Flat images are entered in the same way.
//!
//! Spec: Xen public headers, "hvm_start_info" (x86/HVM direct boot ABI), version 1.

use alloc::vec::Vec;

use super::{
    super::layout::{self, CMDLINE, GDT, HANDOVER},
    BootState, Information,
    page::Page,
};

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;

const MAGIC_OFFSET: usize = 0;
const VERSION_OFFSET: usize = 4;
const NR_MODULES: usize = 12;
const MODLIST_PADDR: usize = 16;
const CMDLINE_PADDR: usize = 24;
const RSDP_PADDR: usize = 32;
const MEMMAP_PADDR: usize = 40;
const MEMMAP_ENTRIES: usize = 48;

/// What follows the structure in its page.
const MODULE: usize = 0x80;
const MAP: usize = 0x100;
const MAP_ENTRY_BYTES: usize = 24;

/// Returns the start information and the first registers.
pub(super) fn hand_over(entry: u64, information: &Information<'_>) -> (Vec<u8>, BootState) {
    let state = BootState {
        rbx: HANDOVER,
        ..BootState::protected(entry, GDT)
    };
    let mut page = Page::new();
    page.u32(MAGIC_OFFSET, MAGIC);
    page.u32(VERSION_OFFSET, VERSION);
    page.u64(CMDLINE_PADDR, CMDLINE);
    page.u64(RSDP_PADDR, information.rsdp);
    if let Some(initrd) = information.initrd {
        page.u32(NR_MODULES, 1);
        page.u64(MODLIST_PADDR, address_of(MODULE));
        page.u64(MODULE, initrd.first());
        page.u64(MODULE.saturating_add(8), initrd.size_bytes);
    }
    memory_map(&mut page, information);
    (page.into_bytes(), state)
}

/// Returns where something in the page is.
fn address_of(offset: usize) -> u64 {
    HANDOVER.saturating_add(offset as u64)
}

fn memory_map(page: &mut Page, information: &Information<'_>) {
    let map = layout::memory_map(information.ram);
    page.u64(MEMMAP_PADDR, address_of(MAP));
    page.u32(MEMMAP_ENTRIES, map.len() as u32);
    for (index, entry) in map.iter().enumerate() {
        let at = MAP.saturating_add(index.saturating_mul(MAP_ENTRY_BYTES));
        page.u64(at, entry.range.first());
        page.u64(at.saturating_add(8), entry.range.size_bytes);
        page.u32(at.saturating_add(16), entry.kind as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn the_start_information_tells_memory_acpi_and_module() {
        let mut boot = boot(&pvh_image());
        boot.initrd = Some(shared(&[7; 5000]));
        let page = at(&ready(&boot, 64 * MIB), HANDOVER);
        assert_eq!(u32_at(&page, MAGIC_OFFSET), MAGIC);
        assert_eq!(u64_at(&page, RSDP_PADDR), RSDP);
        assert_eq!(u32_at(&page, MEMMAP_ENTRIES), 4);
        let map = (u64_at(&page, MEMMAP_PADDR) - HANDOVER) as usize;
        assert_eq!(u64_at(&page, map + 3 * MAP_ENTRY_BYTES), MIB);
        let module = (u64_at(&page, MODLIST_PADDR) - HANDOVER) as usize;
        assert_eq!(u64_at(&page, module + 8), 5000);
    }

    #[test]
    fn it_is_entered_at_the_notes_entry_with_the_information_in_ebx() {
        let state = ready(&boot(&pvh_image()), 64 * MIB).state;
        assert!(!state.is_long());
        assert_eq!((state.rip, state.rbx), (0x10_0040, HANDOVER));
    }

    #[test]
    fn a_flat_image_is_entered_at_its_first_byte() {
        let state = ready(&boot(&[0xf4; 64]), 64 * MIB).state;
        assert_eq!((state.rip, state.rbx), (0x10_0000, HANDOVER));
    }
}
