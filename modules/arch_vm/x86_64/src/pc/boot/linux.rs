// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Linux's boot protocol: the zero page, and the 64-bit or 32-bit entry.
//!
//! Random bytes for the kernel to begin with are an element of a list that the
//! zero page leads to; the kernel overwrites them as it takes them.
//!
//! Spec: Linux, Documentation/arch/x86/boot.rst and zero-page.rst.

use alloc::vec::Vec;

use axvm::boot::{BzImage, GuestRange, ImageError};

use super::{
    super::layout::{self, CMDLINE, GDT, HANDOVER, PAGE_TABLES, SETUP_DATA},
    BootState, Chunk, Information, Seed, check_cmdline,
    page::Page,
};

const ACPI_RSDP_ADDR: usize = 0x070;
const EXT_RAMDISK_IMAGE: usize = 0x0c0;
const EXT_RAMDISK_SIZE: usize = 0x0c4;
const E820_ENTRIES: usize = 0x1e8;
const TYPE_OF_LOADER: usize = 0x210;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const CMD_LINE_PTR: usize = 0x228;
const SETUP_DATA_POINTER: usize = 0x250;
/// Where a header ends at most, since the memory map follows.
const HEADER_END: usize = 0x290;
const E820_TABLE: usize = 0x2d0;
const E820_ENTRY_BYTES: usize = 20;

/// A loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// What an element of the list is: SETUP_RNG_SEED.
const RNG_SEED: u32 = 9;

/// Returns the list with a seed as its only element.
pub(super) fn seed_list(seed: &Seed) -> Chunk {
    let end = 0u64.to_le_bytes();
    let words = [RNG_SEED, seed.len() as u32].map(u32::to_le_bytes);
    let bytes = [end.as_slice(), words.as_flattened(), seed].concat();
    Chunk::new(SETUP_DATA, bytes)
}

/// Returns the zero page and the first registers.
pub(super) fn hand_over(
    image: &BzImage<'_>,
    entry: u64,
    information: &Information<'_>,
) -> Result<(Vec<u8>, BootState), ImageError> {
    let max_bytes = usize::try_from(image.cmdline_max_bytes).unwrap_or(usize::MAX);
    check_cmdline(information.cmdline, max_bytes)?;
    let state = match image.has_entry_64 {
        true => {
            let entry = entry.saturating_add(BzImage::entry_64_offset());
            BootState::long(entry, GDT, PAGE_TABLES)
        }
        false => BootState::protected(entry, GDT),
    };
    let state = BootState {
        rsi: HANDOVER,
        ..state
    };
    Ok((zero_page(image, information), state))
}

fn zero_page(image: &BzImage<'_>, information: &Information<'_>) -> Vec<u8> {
    let mut page = Page::new();
    let start = BzImage::SETUP_HEADER_OFFSET;
    let header_max = HEADER_END.saturating_sub(start);
    let header = image.setup_header;
    page.put(start, header.get(..header_max).unwrap_or(header));
    page.u8(TYPE_OF_LOADER, LOADER_UNDEFINED);
    page.u32(CMD_LINE_PTR, CMDLINE as u32);
    page.u64(ACPI_RSDP_ADDR, information.rsdp);
    if information.has_seed {
        page.u64(SETUP_DATA_POINTER, SETUP_DATA);
    }
    let initrd = information.initrd.unwrap_or(GuestRange::new(0, 0));
    let halves = |value: u64| (value as u32, (value >> 32) as u32);
    let (image_low, image_high) = halves(initrd.first());
    let (size_low, size_high) = halves(initrd.size_bytes);
    page.u32(RAMDISK_IMAGE, image_low);
    page.u32(EXT_RAMDISK_IMAGE, image_high);
    page.u32(RAMDISK_SIZE, size_low);
    page.u32(EXT_RAMDISK_SIZE, size_high);
    memory_map(&mut page, information);
    page.into_bytes()
}

fn memory_map(page: &mut Page, information: &Information<'_>) {
    let map = layout::memory_map(information.ram);
    page.u8(E820_ENTRIES, map.len() as u8);
    for (index, entry) in map.iter().enumerate() {
        let at = E820_TABLE.saturating_add(index.saturating_mul(E820_ENTRY_BYTES));
        page.u64(at, entry.range.first());
        page.u64(at.saturating_add(8), entry.range.size_bytes);
        page.u32(at.saturating_add(16), entry.kind as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn the_zero_page_has_the_header_and_all_that_linux_asks_for() {
        let mut boot = boot(&bzimage());
        boot.cmdline = "console=ttyS0".into();
        boot.initrd = Some(shared(&[7; 5000]));
        let ready = ready(&boot, 64 * MIB);
        let page = at(&ready, HANDOVER);
        assert_eq!(&page[0x202..0x206], b"HdrS");
        assert_eq!(u64_at(&page, ACPI_RSDP_ADDR), RSDP);
        assert_eq!(u32_at(&page, RAMDISK_SIZE), 5000);
        assert_eq!(u32_at(&page, RAMDISK_IMAGE) % 4096, 0);
        let line = at(&ready, u64::from(u32_at(&page, CMD_LINE_PTR)));
        assert_eq!(&line[..14], b"console=ttyS0\0");
        assert_eq!(page[E820_ENTRIES], 4);
        let last = E820_TABLE + 3 * E820_ENTRY_BYTES;
        assert_eq!(u64_at(&page, last), MIB);
        assert_eq!(u64_at(&page, last + 8), 63 * MIB);
        assert_eq!(u32_at(&page, last + 16), 1);
    }

    #[test]
    fn the_seed_is_in_the_list_that_the_zero_page_leads_to() {
        let ready = ready(&boot(&bzimage()), 64 * MIB);
        let list = at(&ready, u64_at(&at(&ready, HANDOVER), SETUP_DATA_POINTER));
        assert_eq!(list.len(), 48);
        assert_eq!(u64_at(&list, 0), 0, "the last element");
        assert_eq!((u32_at(&list, 8), u32_at(&list, 12)), (9, 32));
        assert_eq!(list[16..], SEED);
    }

    #[test]
    fn without_a_seed_there_is_no_list() {
        let ready = ready_with(&boot(&bzimage()), 64 * MIB, None).unwrap();
        assert_eq!(u64_at(&at(&ready, HANDOVER), SETUP_DATA_POINTER), 0);
        let start = |chunk: &Chunk| chunk.start.as_usize() as u64;
        assert!(ready.chunks.iter().all(|chunk| start(chunk) != SETUP_DATA));
    }

    #[test]
    fn it_is_entered_in_long_mode_with_the_zero_page_in_rsi() {
        let state = ready(&boot(&bzimage()), 64 * MIB).state;
        assert!(state.is_long());
        assert_eq!(state.rip, 16 * MIB + 0x200);
        assert_eq!((state.rsi, state.cr3), (HANDOVER, PAGE_TABLES));
    }

    #[test]
    fn a_kernel_without_the_64_bit_entry_is_entered_in_protected_mode() {
        let mut kernel = bzimage();
        kernel[0x236] = 0;
        let state = ready(&boot(&kernel), 64 * MIB).state;
        assert!(!state.is_long());
        assert_eq!((state.rip, state.rsi), (16 * MIB, HANDOVER));
    }

    #[test]
    fn an_initrd_above_4_gib_is_told_in_both_halves() {
        let mut kernel = bzimage();
        kernel[0x236] = 3;
        let mut boot = boot(&kernel);
        boot.initrd = Some(shared(&[7; 5000]));
        let page = at(&ready(&boot, 4096 * MIB), HANDOVER);
        assert_eq!(u32_at(&page, EXT_RAMDISK_IMAGE), 1);
    }

    #[test]
    fn a_command_line_longer_than_the_kernel_takes_is_refused() {
        let mut boot = boot(&bzimage());
        boot.cmdline = "x".repeat(2048);
        let error = try_ready(&boot, 64 * MIB).unwrap_err();
        let expected = ImageError::CmdlineTooLong {
            size_bytes: 2048,
            max_bytes: 2047,
        };
        assert_eq!(error, expected);
    }
}
