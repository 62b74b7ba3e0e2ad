// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The smallest images of each format, for the tests of this folder.

use alloc::{vec, vec::Vec};

use axvm::{
    BootConfig, ImageBytes,
    boot::{self, ImageError},
};

use super::{super::layout, Firmware, Ready, Seed, hand_over, rules};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const RSDP: u64 = 0xe_0000;
pub(super) const SEED: Seed = [0x5a; 32];

pub(super) fn shared(bytes: &[u8]) -> ImageBytes {
    ImageBytes::Shared(bytes.into())
}

pub(super) fn boot(kernel: &[u8]) -> BootConfig {
    BootConfig {
        kernel: shared(kernel),
        initrd: None,
        dtb: None,
        cmdline: "".into(),
        load: None,
        entry: None,
    }
}

pub(super) fn try_ready(config: &BootConfig, memory_bytes: u64) -> Result<Ready, ImageError> {
    ready_with(config, memory_bytes, Some(SEED))
}

pub(super) fn ready_with(
    config: &BootConfig,
    memory_bytes: u64,
    seed: Option<Seed>,
) -> Result<Ready, ImageError> {
    let ram = layout::ram(memory_bytes);
    let image = boot::recognise(&config.kernel)?;
    let placement = boot::place(&image, config, &rules(&ram))?;
    hand_over(&placement, config, &ram, &Firmware { rsdp: RSDP, seed })
}

pub(super) fn ready(config: &BootConfig, memory_bytes: u64) -> Ready {
    try_ready(config, memory_bytes).unwrap()
}

/// Returns the bytes that go to an address.
pub(super) fn at(ready: &Ready, address: u64) -> Vec<u8> {
    let chunk = ready
        .chunks
        .iter()
        .find(|chunk| chunk.start.as_usize() as u64 == address);
    chunk.unwrap().bytes.clone()
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// A bzImage that prefers 16 MiB, with the 64-bit entry.
pub(super) fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 1024 + 4096];
    image[0x1f1] = 1;
    put(&mut image, 0x1f4, &256u32.to_le_bytes());
    put(&mut image, 0x200, b"\xeb\x66HdrS\x0f\x02");
    image[0x211] = 1;
    put(&mut image, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(&mut image, 0x230, &0x20_0000u32.to_le_bytes());
    image[0x234] = 1;
    image[0x236] = 1;
    put(&mut image, 0x238, &2047u32.to_le_bytes());
    put(&mut image, 0x258, &(16 * MIB).to_le_bytes());
    put(&mut image, 0x260, &(8u32 << 20).to_le_bytes());
    image
}

/// A multiboot image with addresses, loaded at 1 MiB.
pub(super) fn multiboot_image() -> Vec<u8> {
    let (magic, flags, load) = (0x1bad_b002u32, 1u32 << 16, 0x10_0000u32);
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    let header = [magic, flags, checksum, load, load, 0, 0, load + 0x20];
    let mut image: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    image.extend([0xf4; 64]);
    image
}

/// An ELF with a PVH note, loaded at 1 MiB.
pub(super) fn pvh_image() -> Vec<u8> {
    let note = b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0\x40\0\x10\0";
    let mut image = vec![0; 64 + 2 * 56];
    put(&mut image, 0, b"\x7fELF\x02\x01\x01");
    put(&mut image, 16, &2u16.to_le_bytes());
    put(&mut image, 18, &62u16.to_le_bytes());
    put(&mut image, 20, &1u32.to_le_bytes());
    put(&mut image, 24, &(MIB + 0x10).to_le_bytes());
    put(&mut image, 32, &64u64.to_le_bytes());
    put(&mut image, 52, &[64, 0, 56, 0, 2, 0]);
    let segments = [(1u32, MIB, vec![0xf4; 128]), (4, 0, note.to_vec())];
    for (index, (kind, address, bytes)) in segments.into_iter().enumerate() {
        let header = 64 + 56 * index;
        put(&mut image, header, &kind.to_le_bytes());
        let size = bytes.len() as u64;
        let fields = [image.len() as u64, address, address, size, size, 4];
        for (field, value) in fields.iter().enumerate() {
            put(&mut image, header + 8 + 8 * field, &value.to_le_bytes());
        }
        image.extend(bytes);
    }
    image
}
