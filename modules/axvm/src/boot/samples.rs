// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Images for the tests of this folder, written header by header.
//!
//! Each is the smallest valid file of its format; tests break one field of it.

use alloc::{vec, vec::Vec};

use axvm_types::GuestPhysAddr;

use super::{BootRules, FdtPosition, GuestRange, Handover, LinuxFormat, LinuxKind};
use crate::{BootConfig, ImageBytes, RamRegion};

pub(super) const EM_386: u16 = 3;
pub(super) const EM_X86_64: u16 = 62;
pub(super) const EM_RISCV: u16 = 243;
pub(super) const MIB: u64 = 1 << 20;

/// Writes bytes over others.
pub(super) fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// A program header: type, physical, virtual, file bytes, memory bytes.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) kind: u32,
    pub(super) physical: u64,
    pub(super) virt: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) memory_bytes: u64,
}

impl Segment {
    pub(super) fn load(physical: u64, virt: u64, file_bytes: usize, memory_bytes: u64) -> Self {
        Self {
            kind: 1,
            physical,
            virt,
            bytes: vec![0x13; file_bytes],
            memory_bytes,
        }
    }

    /// A PVH note.
    pub(super) fn pvh_note(entry: u32) -> Self {
        let mut bytes = Vec::new();
        for word in [4u32, 4, 18] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(b"Xen\0");
        bytes.extend(entry.to_le_bytes());
        Self {
            kind: 4,
            physical: 0,
            virt: 0,
            memory_bytes: bytes.len() as u64,
            bytes,
        }
    }
}

/// A 64-bit little-endian executable.
pub(super) fn elf(machine: u16, entry: u64, segments: &[Segment]) -> Vec<u8> {
    let mut image = vec![0; 64 + 56 * segments.len()];
    put(&mut image, 0, b"\x7fELF\x02\x01\x01");
    put(&mut image, 16, &2u16.to_le_bytes());
    put(&mut image, 18, &machine.to_le_bytes());
    put(&mut image, 20, &1u32.to_le_bytes());
    put(&mut image, 24, &entry.to_le_bytes());
    put(&mut image, 32, &64u64.to_le_bytes());
    put(&mut image, 52, &64u16.to_le_bytes());
    put(&mut image, 54, &56u16.to_le_bytes());
    put(&mut image, 56, &(segments.len() as u16).to_le_bytes());
    for (index, segment) in segments.iter().enumerate() {
        let header = 64 + 56 * index;
        put(&mut image, header, &segment.kind.to_le_bytes());
        let fields = [
            image.len() as u64,
            segment.virt,
            segment.physical,
            segment.bytes.len() as u64,
            segment.memory_bytes,
            4,
        ];
        for (field, value) in fields.iter().enumerate() {
            put(&mut image, header + 8 + 8 * field, &value.to_le_bytes());
        }
        image.extend(&segment.bytes);
    }
    image
}

/// A Linux `Image` of so many bytes.
pub(super) fn linux(kind: LinuxKind, text_offset: u64, image_bytes: u64, size: usize) -> Vec<u8> {
    let mut image = vec![0x13; size];
    put(&mut image, 8, &text_offset.to_le_bytes());
    put(&mut image, 16, &image_bytes.to_le_bytes());
    put(&mut image, 24, &[0; 8]);
    match kind {
        LinuxKind::Riscv => {
            put(&mut image, 48, b"RISCV\0\0\0");
            put(&mut image, 56, b"RSC\x05");
        }
        LinuxKind::Arm64 => put(&mut image, 56, b"ARM\x64"),
    }
    image
}

/// A bzImage of protocol 2.15 with a protected-mode kernel of so many bytes.
pub(super) fn bzimage(pref_address: u64, init_size: u32, kernel_bytes: usize) -> Vec<u8> {
    let mut image = vec![0x90; 1024 + kernel_bytes];
    image[..1024].fill(0);
    image[0x1f1] = 1;
    put(&mut image, 0x1f4, &(kernel_bytes as u32 / 16).to_le_bytes());
    put(&mut image, 0x200, &[0xeb, 0x66]);
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, &0x20fu16.to_le_bytes());
    image[0x211] = 1;
    put(&mut image, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(&mut image, 0x230, &0x20_0000u32.to_le_bytes());
    image[0x234] = 1;
    put(&mut image, 0x236, &1u16.to_le_bytes());
    put(&mut image, 0x238, &2047u32.to_le_bytes());
    put(&mut image, 0x258, &pref_address.to_le_bytes());
    put(&mut image, 0x260, &init_size.to_le_bytes());
    image
}

/// A multiboot header with its five address fields.
pub(super) fn multiboot_header(flags: u32, addresses: [u32; 5]) -> Vec<u8> {
    let magic = 0x1bad_b002u32;
    let checksum = 0u32.wrapping_sub(magic).wrapping_sub(flags);
    [magic, flags, checksum]
        .into_iter()
        .chain(addresses)
        .flat_map(u32::to_le_bytes)
        .collect()
}

/// A VM's `[boot]` with a kernel alone.
pub(super) fn boot(kernel: &[u8]) -> BootConfig {
    BootConfig {
        kernel: shared(kernel),
        initrd: None,
        dtb: None,
        cmdline: "console=ttyS0".into(),
        load: None,
        entry: None,
    }
}

/// Bytes as a file.
pub(super) fn shared(bytes: &[u8]) -> ImageBytes {
    ImageBytes::Shared(bytes.into())
}

pub(super) fn region(start: u64, size_bytes: u64) -> RamRegion {
    RamRegion {
        start: GuestPhysAddr::from(start as usize),
        size_bytes: size_bytes as usize,
    }
}

/// A machine like QEMU's riscv `virt`.
pub(super) fn riscv(ram: &[RamRegion]) -> BootRules<'_> {
    BootRules {
        ram,
        reserved: &[],
        elf_machines: &[EM_RISCV],
        linux: Some(LinuxFormat::Image(LinuxKind::Riscv)),
        flat_offset: Some(2 * MIB),
        handover: Handover::Fdt {
            room_bytes: 64 << 10,
            elf: FdtPosition::High,
        },
    }
}

/// The first MiB of a PC.
pub(super) const PC_LOW: &[GuestRange] = &[GuestRange::new(0, MIB)];

/// A machine like a PC.
pub(super) fn pc(ram: &[RamRegion]) -> BootRules<'_> {
    BootRules {
        ram,
        reserved: PC_LOW,
        elf_machines: &[EM_X86_64, EM_386],
        linux: Some(LinuxFormat::BzImage),
        flat_offset: None,
        handover: Handover::Pc,
    }
}
