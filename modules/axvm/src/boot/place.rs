// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Where the kernel, the device tree and the initrd go.
//!
//! The machine states its [`BootRules`]; the kernel goes where its format says,
//! the device tree and the initrd go high, within the first GiB after the
//! kernel where there is room. What is placed is wholly in RAM, outside what
//! the machine keeps, and overlaps nothing.
//!
//! Where an ELF goes: `p_paddr` is the physical address. If it is not in RAM and
//! equals `p_vaddr` in every segment, the linker knew virtual addresses only
//! (as with kernels in the upper half that have no `AT` in their linker script).
//! Such kernels map RAM linearly by 1 GiB pages, so that an address and its
//! physical address agree in their low 30 bits: the image moves as a whole to
//! the lowest free RAM where they do. `boot.load` moves any ELF as a whole.
//!
//! Spec: Linux, arm64/booting.rst, riscv/boot.rst, x86/boot.rst.

use alloc::{vec, vec::Vec};

use axvm_types::GuestPhysAddr;

use super::{
    BzImage, ElfImage, ElfSegment, GuestRange, Image, ImageError, ImageFormat, LinuxImage,
    LinuxKind, Multiboot, bytes::length, fdt, space::Space,
};
use crate::{BootConfig, RamRegion};

const PAGE_BYTES: u64 = 4 << 10;
const LARGE_PAGE_BYTES: u64 = 2 << 20;
const HUGE_PAGE_BYTES: u64 = 1 << 30;
/// What 32-bit boot protocols can name.
const LIMIT_32_BIT: u64 = 1 << 32;
/// Where a PC's extended memory starts.
const HIGH_MEMORY: u64 = 1 << 20;

/// What a machine boots, and with what around it.
#[derive(Clone, Copy, Debug)]
pub struct BootRules<'a> {
    /// Its RAM; flat and Linux images count from the first region's start.
    pub ram: &'a [RamRegion],
    /// RAM that the machine keeps for its own tables, such as a PC's first MiB.
    pub reserved: &'a [GuestRange],
    /// The `e_machine` of ELFs that it runs, the usual one first.
    pub elf_machines: &'a [u16],
    /// The Linux format that it boots.
    pub linux: Option<LinuxFormat>,
    /// Where flat images go, from the start of RAM; `None` refuses them.
    pub flat_offset: Option<u64>,
    /// How the kernel is told about the machine.
    pub handover: Handover,
}

/// The Linux format that a machine boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinuxFormat {
    /// `Image` with the header of riscv or arm64.
    Image(LinuxKind),
    /// `bzImage`.
    BzImage,
}

/// How a kernel is told about its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// By nothing in memory.
    Nothing,
    /// By a device tree.
    Fdt {
        /// Room for the tree that the machine writes.
        room_bytes: u64,
        /// Where it goes for kernels that are ELFs.
        elf: FdtPosition,
    },
    /// By a PC's structures, which the architecture writes into reserved RAM;
    /// makes multiboot headers and PVH notes count.
    Pc,
}

/// Where a device tree goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdtPosition {
    /// High, where Linux accepts it.
    High,
    /// At the start of RAM, where QEMU's arm boards leave it for bare-metal
    /// kernels that are not told the address; high if that is not free.
    RamStart,
}

/// Some bytes of a file and the memory they go to; zeros follow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<'a> {
    /// The memory, at least as large as the bytes.
    pub range: GuestRange,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// How the boot vCPU enters the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol<'a> {
    /// As the architecture's firmware does: at the entry.
    Direct,
    /// Linux's x86 boot protocol; the entry is the 32-bit one, where the kernel
    /// was loaded.
    LinuxPc(BzImage<'a>),
    /// PVH, at the 32-bit entry of the ELF's note.
    Pvh,
    /// Multiboot 1.
    Multiboot(Multiboot<'a>),
}

/// Where everything goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement<'a> {
    /// The kernel.
    pub kernel: Vec<Placed<'a>>,
    /// Where the boot vCPU starts.
    pub entry: GuestPhysAddr,
    /// How it starts there.
    pub protocol: Protocol<'a>,
    /// The initial RAM disk.
    pub initrd: Option<Placed<'a>>,
    /// Room for the device tree.
    pub fdt: Option<GuestRange>,
}

/// A kernel that has its place.
struct Kernel<'a> {
    placed: Vec<Placed<'a>>,
    entry: u64,
    protocol: Protocol<'a>,
}

/// Places everything that `boot` names; `image` was recognised in its kernel.
pub fn place<'a>(
    image: &Image<'a>,
    boot: &'a BootConfig,
    rules: &BootRules<'_>,
) -> Result<Placement<'a>, ImageError> {
    let mut placer = Placer {
        rules,
        boot,
        space: Space::new(rules.ram, rules.reserved),
    };
    let kernel = placer.kernel(image)?;
    let entry = boot.entry.unwrap_or(kernel.entry);
    if !in_ram(rules.ram, entry) {
        return Err(ImageError::EntryOutsideRam(entry));
    }
    let near = placer.near(&kernel);
    let fdt = placer.fdt(image.format(), near)?;
    let initrd = placer.initrd(kernel.protocol, near)?;
    Ok(Placement {
        kernel: kernel.placed,
        entry: address(entry),
        protocol: kernel.protocol,
        initrd,
        fdt,
    })
}

/// Places one thing after the other.
struct Placer<'r, 'a> {
    rules: &'r BootRules<'r>,
    boot: &'a BootConfig,
    space: Space,
}

impl<'a> Placer<'_, 'a> {
    fn kernel(&mut self, image: &Image<'a>) -> Result<Kernel<'a>, ImageError> {
        match (image, self.rules.linux, self.rules.handover) {
            (Image::Elf(elf), ..) => self.elf(elf),
            (Image::Linux(linux), Some(LinuxFormat::Image(kind)), _) if kind == linux.kind => {
                self.linux(linux)
            }
            (Image::BzImage(image), Some(LinuxFormat::BzImage), _) => self.bzimage(image),
            (Image::Multiboot(image), _, Handover::Pc) => self.multiboot(image),
            (Image::Flat(bytes), ..) => self.flat(bytes),
            _ => Err(ImageError::WrongFormat(image.format())),
        }
    }

    /// A flat image: at `boot.load`, or where the machine says.
    fn flat(&mut self, bytes: &'a [u8]) -> Result<Kernel<'a>, ImageError> {
        let usual = self.rules.flat_offset.map(|offset| self.ram_offset(offset));
        let start = self
            .boot
            .load
            .or(usual)
            .ok_or(ImageError::WrongFormat(ImageFormat::Flat))?;
        let placed = self.take(start, bytes, length(bytes))?;
        Ok(direct(placed, start))
    }

    /// A Linux `Image`: `text_offset` after a multiple of 2 MiB.
    fn linux(&mut self, image: &LinuxImage<'a>) -> Result<Kernel<'a>, ImageError> {
        let offset = match image.text_offset {
            // As QEMU does: images with a small offset that are linked to fixed
            // addresses expect the first 2 MiB to be firmware's.
            offset if offset < PAGE_BYTES => offset.saturating_add(LARGE_PAGE_BYTES),
            offset => offset,
        };
        let start = self.boot.load.unwrap_or_else(|| self.ram_offset(offset));
        let misplaced = start.wrapping_sub(image.text_offset) % LARGE_PAGE_BYTES;
        if misplaced != 0 {
            return Err(ImageError::LoadMisaligned {
                start,
                align: LARGE_PAGE_BYTES,
                offset: image.text_offset,
            });
        }
        let placed = self.take(start, image.bytes, image.memory_bytes)?;
        Ok(direct(placed, start))
    }

    /// A bzImage: where it prefers, or as low as it can if there is no room.
    fn bzimage(&mut self, image: &BzImage<'a>) -> Result<Kernel<'a>, ImageError> {
        let start = self.boot.load.unwrap_or_else(|| self.bzimage_start(image));
        if image.is_relocatable && !start.is_multiple_of(image.alignment) {
            return Err(ImageError::LoadMisaligned {
                start,
                align: image.alignment,
                offset: 0,
            });
        }
        let placed = self.take(start, image.kernel, image.memory_bytes)?;
        Ok(Kernel {
            protocol: Protocol::LinuxPc(*image),
            ..direct(placed, start)
        })
    }

    fn bzimage_start(&self, image: &BzImage<'_>) -> u64 {
        let preferred = image.pref_address;
        if self.space.room_at(preferred) >= image.memory_bytes || !image.is_relocatable {
            return preferred;
        }
        self.space
            .find_low(image.memory_bytes, image.alignment, 0, HIGH_MEMORY)
            .unwrap_or(preferred)
    }

    /// A multiboot kernel: where the addresses in its header say.
    fn multiboot(&mut self, image: &Multiboot<'a>) -> Result<Kernel<'a>, ImageError> {
        let wrong = ImageError::WrongFormat(ImageFormat::Multiboot);
        let (bytes, addresses) = image.loaded().ok_or(wrong)?;
        let placed = self.take(
            u64::from(addresses.load),
            bytes,
            u64::from(addresses.memory_bytes),
        )?;
        Ok(Kernel {
            protocol: Protocol::Multiboot(*image),
            ..direct(placed, u64::from(addresses.entry))
        })
    }

    /// An ELF: by the boot protocol that it carries, if the machine is a PC.
    fn elf(&mut self, elf: &ElfImage<'a>) -> Result<Kernel<'a>, ImageError> {
        self.check_machine(elf.machine)?;
        let is_pc = self.rules.handover == Handover::Pc;
        match (elf.multiboot, elf.pvh_entry) {
            (Some(image), _) if is_pc && image.addresses.is_some() => self.multiboot(&image),
            (Some(image), _) if is_pc => Ok(Kernel {
                protocol: Protocol::Multiboot(image),
                ..self.segments(elf)?
            }),
            (None, Some(entry)) if is_pc => Ok(Kernel {
                entry: u64::from(entry),
                protocol: Protocol::Pvh,
                ..self.segments(elf)?
            }),
            _ => self.segments(elf),
        }
    }

    fn check_machine(&self, found: u16) -> Result<(), ImageError> {
        let machines = self.rules.elf_machines;
        match machines.first() {
            _ if machines.contains(&found) => Ok(()),
            Some(&expected) => Err(ImageError::WrongMachine { found, expected }),
            None => Err(ImageError::WrongFormat(ImageFormat::Elf)),
        }
    }

    /// Places an ELF's segments; the entry follows them.
    fn segments(&mut self, elf: &ElfImage<'a>) -> Result<Kernel<'a>, ImageError> {
        let shift = self.elf_shift(&elf.segments)?;
        let mut placed = Vec::with_capacity(elf.segments.len());
        for segment in &elf.segments {
            let start = segment.physical.wrapping_sub(shift);
            placed.push(self.take(start, segment.bytes, segment.memory_bytes)?);
        }
        Ok(Kernel {
            placed,
            entry: elf_physical(elf).wrapping_sub(shift),
            protocol: Protocol::Direct,
        })
    }

    /// Returns how far down the segments move, modulo 2^64.
    fn elf_shift(&self, segments: &[ElfSegment<'_>]) -> Result<u64, ImageError> {
        let first = segments.first().map_or(0, |segment| segment.physical);
        let end = segments.last().map_or(first, ElfSegment::end);
        let size = end.saturating_sub(first);
        if let Some(load) = self.boot.load {
            return Ok(first.wrapping_sub(load));
        }
        let is_virtual_only = segments
            .iter()
            .all(|segment| segment.physical == segment.virt);
        if in_ram(self.rules.ram, first) || !is_virtual_only {
            return Ok(0);
        }
        self.space
            .find_low(size, HUGE_PAGE_BYTES, first, 0)
            .map(|start| first.wrapping_sub(start))
            .ok_or_else(|| self.no_home(first, size))
    }

    /// Says why a kernel that may move finds no room.
    fn no_home(&self, start: u64, size_bytes: u64) -> ImageError {
        let ram_start = self.ram_offset(start % HUGE_PAGE_BYTES);
        match self.space.room_at(ram_start) {
            0 => ImageError::LoadOutsideRam { start, size_bytes },
            room_bytes => ImageError::KernelTooLarge {
                start: address(ram_start),
                size_bytes,
                room_bytes,
            },
        }
    }

    /// Room for the device tree: the machine's own, or the one given.
    fn fdt(&mut self, format: ImageFormat, near: u64) -> Result<Option<GuestRange>, ImageError> {
        let Handover::Fdt { room_bytes, elf } = self.rules.handover else {
            return Ok(None);
        };
        let size_bytes = match &self.boot.dtb {
            None => room_bytes,
            Some(dtb) => fdt::given_room_bytes(dtb, &self.boot.cmdline)?,
        };
        let at_start = (format == ImageFormat::Elf && elf == FdtPosition::RamStart)
            .then(|| self.space.take(self.ram_offset(0), size_bytes))
            .flatten();
        let high = || self.high(size_bytes, LARGE_PAGE_BYTES, near);
        at_start
            .or_else(high)
            .map(Some)
            .ok_or(ImageError::NoRoomForFdt { size_bytes })
    }

    /// The initrd, page-aligned and below what the kernel accepts.
    fn initrd(
        &mut self,
        protocol: Protocol<'_>,
        near: u64,
    ) -> Result<Option<Placed<'a>>, ImageError> {
        let boot = self.boot;
        let Some(initrd) = boot.initrd.as_ref().filter(|initrd| !initrd.is_empty()) else {
            return Ok(None);
        };
        let limit = match protocol {
            Protocol::Direct => near,
            Protocol::LinuxPc(image) => image.initrd_max.saturating_add(1),
            Protocol::Pvh | Protocol::Multiboot(_) => LIMIT_32_BIT,
        };
        let size_bytes = length(initrd);
        let pages = size_bytes.next_multiple_of(PAGE_BYTES);
        let range = match protocol {
            Protocol::Direct => self.high(pages, PAGE_BYTES, limit),
            _ => self.space.take_high(pages, PAGE_BYTES, limit),
        };
        let range = range.ok_or_else(|| ImageError::InitrdTooLarge {
            size_bytes,
            room_bytes: self.space.largest(),
        })?;
        Ok(Some(Placed {
            range: GuestRange {
                size_bytes,
                ..range
            },
            bytes: initrd,
        }))
    }

    /// Takes the highest room near the kernel, or else the highest of all.
    fn high(&mut self, size: u64, align: u64, near: u64) -> Option<GuestRange> {
        [near, u64::MAX]
            .into_iter()
            .find_map(|limit| self.space.take_high(size, align, limit))
    }

    /// Returns the end of the first GiB after the kernel's start.
    fn near(&self, kernel: &Kernel<'_>) -> u64 {
        let starts = kernel.placed.iter().map(|placed| placed.range.first());
        starts.min().unwrap_or(0).saturating_add(HUGE_PAGE_BYTES)
    }

    /// Returns an address so far from the start of RAM.
    fn ram_offset(&self, offset: u64) -> u64 {
        let start = self.rules.ram.first();
        let start = start.map_or(0, |&region| GuestRange::from(region).first());
        start.saturating_add(offset)
    }

    /// Takes a range for a part of the kernel, or says why it cannot be had.
    fn take(
        &mut self,
        start: u64,
        bytes: &'a [u8],
        size_bytes: u64,
    ) -> Result<Placed<'a>, ImageError> {
        match self.space.take(start, size_bytes) {
            Some(range) => Ok(Placed { range, bytes }),
            None => Err(self.refuse(start, size_bytes)),
        }
    }

    fn refuse(&self, start: u64, size_bytes: u64) -> ImageError {
        let mut ram = self
            .rules
            .ram
            .iter()
            .map(|&region| GuestRange::from(region));
        let Some(region) = ram.find(|range| range.contains(start)) else {
            return ImageError::LoadOutsideRam { start, size_bytes };
        };
        let room_bytes = region.end().saturating_sub(start);
        let start = address(start);
        if room_bytes < size_bytes {
            return ImageError::KernelTooLarge {
                start,
                size_bytes,
                room_bytes,
            };
        }
        ImageError::LoadReserved { start, size_bytes }
    }
}

/// Returns the entry's physical address: by the segment that has it as a
/// virtual address, or else as it is.
fn elf_physical(elf: &ElfImage<'_>) -> u64 {
    let offset_in = |segment: &ElfSegment<'_>| {
        let offset = elf.entry.checked_sub(segment.virt)?;
        (offset < segment.memory_bytes).then(|| segment.physical.saturating_add(offset))
    };
    elf.segments.iter().find_map(offset_in).unwrap_or(elf.entry)
}

/// A kernel of one piece that starts at `entry`.
fn direct(placed: Placed<'_>, entry: u64) -> Kernel<'_> {
    Kernel {
        placed: vec![placed],
        entry,
        protocol: Protocol::Direct,
    }
}

fn in_ram(ram: &[RamRegion], address: u64) -> bool {
    ram.iter()
        .any(|&region| GuestRange::from(region).contains(address))
}

fn address(value: u64) -> GuestPhysAddr {
    GuestRange::new(value, 0).start
}
