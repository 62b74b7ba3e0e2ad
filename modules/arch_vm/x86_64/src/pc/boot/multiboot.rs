// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Multiboot 1: the boot information, and 32-bit protected mode.
//!
//! The initial RAM disk is the one module. As QEMU does, everything that this
//! loader knows is told, whatever the kernel's header asks for.
//!
//! Spec: Multiboot Specification 0.6.96, "Machine state", "Boot information format".

use alloc::vec::Vec;

use super::{
    super::layout::{self, CMDLINE, EBDA, GDT, HANDOVER, HIGH_MEMORY},
    BootState, Information,
    page::Page,
};

const MAGIC: u64 = 0x2bad_b002;

const FLAGS: usize = 0;
const MEM_LOWER: usize = 4;
const MEM_UPPER: usize = 8;
const CMDLINE_POINTER: usize = 16;
const MODS_COUNT: usize = 20;
const MODS_ADDR: usize = 24;
const MMAP_LENGTH: usize = 44;
const MMAP_ADDR: usize = 48;
const LOADER_NAME: usize = 64;

const HAS_MEMORY: u32 = 1 << 0;
const HAS_CMDLINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;
const HAS_LOADER_NAME: u32 = 1 << 9;

/// What follows the structure in its page.
const MODULE: usize = 0x80;
const NAME: usize = 0x90;
const MAP: usize = 0x100;
const MAP_ENTRY_BYTES: usize = 24;
/// An entry's first word counts what follows it.
const MAP_ENTRY_SIZE: u32 = 20;

const KIB: u64 = 1 << 10;

/// Returns the information and the first registers.
pub(super) fn hand_over(entry: u64, information: &Information<'_>) -> (Vec<u8>, BootState) {
    let state = BootState {
        rax: MAGIC,
        rbx: HANDOVER,
        ..BootState::protected(entry, GDT)
    };
    let mut page = Page::new();
    let flags = HAS_MEMORY | HAS_CMDLINE | HAS_MODULES | HAS_MEMORY_MAP | HAS_LOADER_NAME;
    page.u32(FLAGS, flags);
    page.u32(CMDLINE_POINTER, CMDLINE as u32);
    page.u32(LOADER_NAME, address_of(NAME));
    page.put(NAME, b"AxHive\0");
    module(&mut page, information);
    memory(&mut page, information);
    (page.into_bytes(), state)
}

/// Returns where something in the page is.
fn address_of(offset: usize) -> u32 {
    (HANDOVER as u32).saturating_add(offset as u32)
}

fn module(page: &mut Page, information: &Information<'_>) {
    let Some(initrd) = information.initrd else {
        return;
    };
    page.u32(MODS_COUNT, 1);
    page.u32(MODS_ADDR, address_of(MODULE));
    page.u32(MODULE, initrd.first() as u32);
    page.u32(MODULE.saturating_add(4), initrd.end() as u32);
}

fn memory(page: &mut Page, information: &Information<'_>) {
    let (low, _) = layout::split(information.ram);
    page.u32(MEM_LOWER, (EBDA / KIB) as u32);
    page.u32(MEM_UPPER, (low.saturating_sub(HIGH_MEMORY) / KIB) as u32);
    let map = layout::memory_map(information.ram);
    let bytes = map.len().saturating_mul(MAP_ENTRY_BYTES);
    page.u32(MMAP_LENGTH, bytes as u32);
    page.u32(MMAP_ADDR, address_of(MAP));
    for (index, entry) in map.iter().enumerate() {
        let at = MAP.saturating_add(index.saturating_mul(MAP_ENTRY_BYTES));
        page.u32(at, MAP_ENTRY_SIZE);
        page.u64(at.saturating_add(4), entry.range.first());
        page.u64(at.saturating_add(12), entry.range.size_bytes);
        page.u32(at.saturating_add(20), entry.kind as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn memory_command_line_and_module_are_told() {
        let mut boot = boot(&multiboot_image());
        boot.cmdline = "one two".into();
        boot.initrd = Some(shared(&[7; 5000]));
        let ready = ready(&boot, 64 * MIB);
        let page = at(&ready, HANDOVER);
        assert_eq!(u32_at(&page, MEM_LOWER), 639);
        assert_eq!(u32_at(&page, MEM_UPPER), 63 << 10);
        let line = at(&ready, u64::from(u32_at(&page, CMDLINE_POINTER)));
        assert_eq!(&line, b"one two\0");
        assert_eq!(u32_at(&page, MODS_COUNT), 1);
        let module = (u32_at(&page, MODS_ADDR) - HANDOVER as u32) as usize;
        let size = u32_at(&page, module + 4) - u32_at(&page, module);
        assert_eq!(size, 5000);
    }

    #[test]
    fn the_map_is_walked_by_each_entrys_size() {
        let page = at(&ready(&boot(&multiboot_image()), 64 * MIB), HANDOVER);
        let mut entry = u32_at(&page, MMAP_ADDR) as usize - HANDOVER as usize;
        let end = entry + u32_at(&page, MMAP_LENGTH) as usize;
        let mut usable = 0;
        while entry < end {
            if u32_at(&page, entry + 20) == 1 {
                usable += u64_at(&page, entry + 12);
            }
            entry += u32_at(&page, entry) as usize + 4;
        }
        assert_eq!(usable, 63 * MIB + EBDA);
    }

    #[test]
    fn it_is_entered_in_protected_mode_with_magic_and_information() {
        let state = ready(&boot(&multiboot_image()), 64 * MIB).state;
        assert!(!state.is_long());
        assert_eq!((state.rax, state.rbx), (MAGIC, HANDOVER));
        assert_eq!(state.rip, 0x10_0020);
        assert_eq!(state.cr0 >> 31, 0, "no paging");
    }
}
