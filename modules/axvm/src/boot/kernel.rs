// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Where each format's kernel goes.
//!
//! The first step of `place`.
//!
//! Where an ELF goes: `p_paddr` is the physical address. If it is not in RAM and
//! equals `p_vaddr` in every segment, the linker knew virtual addresses only
//! (as with kernels in the upper half that have no `AT` in their linker script).
//! Such kernels map RAM linearly by 1 GiB pages, so that an address and its
//! physical address agree in their low 30 bits: the image moves as a whole to
//! the lowest free RAM where they do. `boot.load` moves any ELF as a whole.
//!
//! Spec: Linux, arm64/booting.rst, riscv/boot.rst, x86/boot.rst; Multiboot 0.6.96.

use alloc::{vec, vec::Vec};

use super::{
    BzImage, ElfImage, ElfSegment, GuestRange, Handover, Image, ImageError, ImageFormat,
    LinuxFormat, LinuxImage, Multiboot, Placed, Protocol,
    bytes::length,
    place::{HUGE_PAGE_BYTES, LARGE_PAGE_BYTES, PAGE_BYTES, Placer, address, in_ram},
};

/// Where a PC's extended memory starts.
const HIGH_MEMORY: u64 = 1 << 20;

/// A kernel that has its place.
pub(super) struct Kernel<'a> {
    pub(super) placed: Vec<Placed<'a>>,
    pub(super) entry: u64,
    pub(super) protocol: Protocol<'a>,
}

impl<'a> Placer<'_, 'a> {
    /// Places the kernel, if the machine boots its format.
    pub(super) fn kernel(&mut self, image: &Image<'a>) -> Result<Kernel<'a>, ImageError> {
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
        let start = match self.boot.load {
            Some(load) => linux_load(load, image.text_offset)?,
            None => self.ram_offset(offset),
        };
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
            _ => {
                let kernel = self.segments(elf)?;
                // Nothing says in which mode its entry expects the CPU.
                match is_pc && self.boot.entry.is_none() {
                    true => Err(ImageError::ElfNoPcEntry),
                    false => Ok(kernel),
                }
            }
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

/// Checks where a Linux `Image` is to be loaded.
fn linux_load(start: u64, offset: u64) -> Result<u64, ImageError> {
    match start.wrapping_sub(offset) % LARGE_PAGE_BYTES {
        0 => Ok(start),
        _ => Err(ImageError::LoadMisaligned {
            start,
            align: LARGE_PAGE_BYTES,
            offset,
        }),
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use crate::{
        BootConfig, RamRegion,
        boot::{
            BootRules, ImageError, ImageFormat, LinuxFormat, LinuxKind, Placement, Protocol, place,
            recognise,
            samples::{self, EM_386, EM_RISCV, EM_X86_64, MIB, Segment, pc, region, riscv},
        },
    };

    const RAM: u64 = 0x8000_0000;

    /// Returns the kernel's start, its memory and its entry.
    fn placed(boot: &BootConfig, rules: &BootRules<'_>) -> Result<(u64, u64, u64), ImageError> {
        with(boot, rules, |placement| {
            let range = placement.kernel[0].range;
            let entry = placement.entry.as_usize() as u64;
            (range.first(), range.size_bytes, entry)
        })
    }

    fn with<T>(
        boot: &BootConfig,
        rules: &BootRules<'_>,
        look: impl FnOnce(&Placement<'_>) -> T,
    ) -> Result<T, ImageError> {
        let image = recognise(&boot.kernel)?;
        place(&image, boot, rules).map(|placement| look(&placement))
    }

    fn ram() -> Vec<RamRegion> {
        [region(RAM, 64 * MIB)].into()
    }

    #[test]
    fn a_flat_image_goes_where_the_machine_or_the_file_says() {
        let ram = ram();
        let mut boot = samples::boot(&[0x13, 0, 0, 0, 1]);
        let start = RAM + 2 * MIB;
        assert_eq!(placed(&boot, &riscv(&ram)), Ok((start, 5, start)));
        boot.load = Some(RAM + 3);
        boot.entry = Some(RAM + 4);
        assert_eq!(placed(&boot, &riscv(&ram)), Ok((RAM + 3, 5, RAM + 4)));
    }

    #[test]
    fn a_machine_without_flat_images_refuses_one() {
        let boot = samples::boot(&[0x13, 0, 0, 0, 1]);
        let expected = ImageError::WrongFormat(ImageFormat::Flat);
        assert_eq!(placed(&boot, &pc(&ram())), Err(expected));
    }

    #[test]
    fn a_linux_image_keeps_its_offset_and_a_small_one_stays_clear_of_firmware() {
        let ram = ram();
        let rules = riscv(&ram);
        for (offset, start) in [(2 * MIB, 2 * MIB), (0, 2 * MIB), (0x8_0000, 0x8_0000)] {
            let kernel = samples::linux(LinuxKind::Riscv, offset, 3 * MIB, 100);
            let start = RAM + start;
            let boot = samples::boot(&kernel);
            assert_eq!(placed(&boot, &rules), Ok((start, 3 * MIB, start)));
        }
    }

    #[test]
    fn a_linux_image_is_not_loaded_where_it_cannot_run() {
        let ram = ram();
        let kernel = samples::linux(LinuxKind::Riscv, 0, MIB, 100);
        let mut boot = samples::boot(&kernel);
        boot.load = Some(RAM + MIB);
        let expected = ImageError::LoadMisaligned {
            start: RAM + MIB,
            align: 2 * MIB,
            offset: 0,
        };
        assert_eq!(placed(&boot, &riscv(&ram)), Err(expected));
        boot.load = Some(RAM + 4 * MIB);
        assert_eq!(placed(&boot, &riscv(&ram)).unwrap().0, RAM + 4 * MIB);
    }

    #[test]
    fn kernels_of_other_architectures_are_refused() {
        let ram = ram();
        let rules = riscv(&ram);
        let arm = samples::boot(&samples::linux(LinuxKind::Arm64, 0, MIB, 100));
        let expected = ImageError::WrongFormat(ImageFormat::LinuxArm64);
        assert_eq!(placed(&arm, &rules), Err(expected));
        let bzimage = samples::boot(&samples::bzimage(16 * MIB, 1 << 20, 4096));
        let expected = ImageError::WrongFormat(ImageFormat::BzImage);
        assert_eq!(placed(&bzimage, &rules), Err(expected));
        let elf = samples::elf(EM_X86_64, RAM, &[Segment::load(RAM, RAM, 4, 4)]);
        let (found, expected) = (EM_X86_64, EM_RISCV);
        assert_eq!(
            placed(&samples::boot(&elf), &rules),
            Err(ImageError::WrongMachine { found, expected })
        );
    }

    #[test]
    fn a_kernel_larger_than_ram_is_refused_with_both_sizes() {
        let ram = ram();
        let boot = samples::boot(&samples::linux(LinuxKind::Riscv, 2 * MIB, 63 * MIB, 100));
        let expected = ImageError::KernelTooLarge {
            start: (RAM as usize + (2 << 20)).into(),
            size_bytes: 63 * MIB,
            room_bytes: 62 * MIB,
        };
        assert_eq!(placed(&boot, &riscv(&ram)), Err(expected));
        let boot = samples::boot(&samples::linux(LinuxKind::Riscv, 2 * MIB, u64::MAX, 100));
        assert!(placed(&boot, &riscv(&ram)).is_err());
        let boot = samples::boot(&samples::linux(LinuxKind::Riscv, u64::MAX, MIB, 100));
        assert!(placed(&boot, &riscv(&ram)).is_err());
    }

    #[test]
    fn an_elf_goes_to_its_physical_addresses_and_its_entry_with_it() {
        let ram = ram();
        let virt = 0xffff_ffff_8000_0000;
        let segments = [
            Segment::load(RAM + MIB, virt, 16, 64),
            Segment::load(RAM + 2 * MIB, virt + MIB, 16, 64),
        ];
        let boot = samples::boot(&samples::elf(EM_RISCV, virt + MIB + 8, &segments));
        let expected = (RAM + MIB, 64, RAM + 2 * MIB + 8);
        assert_eq!(placed(&boot, &riscv(&ram)), Ok(expected));
    }

    #[test]
    fn an_elf_of_virtual_addresses_alone_moves_down_to_ram() {
        let ram = ram();
        let virt = 0xffff_ffc0_8020_0000;
        let segments = [
            Segment::load(virt, virt, 16, 64),
            Segment::load(virt + MIB, virt + MIB, 16, 64),
        ];
        let boot = samples::boot(&samples::elf(EM_RISCV, virt + MIB, &segments));
        let expected = (RAM + 2 * MIB, 64, RAM + 3 * MIB);
        assert_eq!(placed(&boot, &riscv(&ram)), Ok(expected));
    }

    #[test]
    fn boot_load_moves_an_elf_as_a_whole() {
        let ram = ram();
        let segment = Segment::load(0, 0xffff_ffff_8000_0000, 16, 64);
        let elf = samples::elf(EM_RISCV, 0xffff_ffff_8000_0004, &[segment]);
        let mut boot = samples::boot(&elf);
        let expected = ImageError::LoadOutsideRam {
            start: 0,
            size_bytes: 64,
        };
        assert_eq!(placed(&boot, &riscv(&ram)), Err(expected));
        boot.load = Some(RAM + 4096);
        let expected = (RAM + 4096, 64, RAM + 4100);
        assert_eq!(placed(&boot, &riscv(&ram)), Ok(expected));
    }

    #[test]
    fn an_elf_that_may_move_but_is_too_large_says_so() {
        let ram = ram();
        let virt = 0xffff_ffc0_8020_0000;
        let segment = Segment::load(virt, virt, 16, 64 * MIB);
        let boot = samples::boot(&samples::elf(EM_RISCV, virt, &[segment]));
        let error = placed(&boot, &riscv(&ram)).unwrap_err();
        assert!(
            matches!(error, ImageError::KernelTooLarge { .. }),
            "{error}"
        );
    }

    #[test]
    fn an_entry_outside_ram_is_refused() {
        let ram = ram();
        let segment = Segment::load(RAM, RAM, 16, 64);
        let boot = samples::boot(&samples::elf(EM_RISCV, 0x1234, &[segment]));
        let expected = ImageError::EntryOutsideRam(0x1234);
        assert_eq!(placed(&boot, &riscv(&ram)), Err(expected));
    }

    #[test]
    fn a_bzimage_runs_where_it_prefers_or_lower_in_little_ram() {
        let boot = samples::boot(&samples::bzimage(16 * MIB, 8 << 20, 4096));
        let (large, small) = ([region(0, 64 * MIB)], [region(0, 16 * MIB)]);
        let start = 16 * MIB;
        assert_eq!(placed(&boot, &pc(&large)), Ok((start, 8 * MIB, start)));
        let start = 2 * MIB;
        assert_eq!(placed(&boot, &pc(&small)), Ok((start, 8 * MIB, start)));
    }

    #[test]
    fn nothing_goes_where_a_pc_keeps_its_tables() {
        let ram = [region(0, 64 * MIB)];
        let segment = Segment::load(0x8000, 0x8000, 16, 64);
        let boot = samples::boot(&samples::elf(EM_X86_64, 0x8000, &[segment]));
        let expected = ImageError::LoadReserved {
            start: 0x8000.into(),
            size_bytes: 64,
        };
        assert_eq!(placed(&boot, &pc(&ram)), Err(expected));
    }

    #[test]
    fn a_pc_enters_an_elf_by_the_protocol_that_it_carries() {
        let ram = [region(0, 64 * MIB)];
        let high = 0xffff_ffff_8000_0000;
        let code = |header: Vec<u8>| Segment {
            bytes: header,
            ..Segment::load(MIB, high + MIB, 0, 4096)
        };
        let protocol = |segments: &[Segment]| {
            let boot = samples::boot(&samples::elf(EM_386, high + MIB + 4, segments));
            with(&boot, &pc(&ram), |placement| {
                let name = match placement.protocol {
                    Protocol::Direct => "direct",
                    Protocol::Pvh => "pvh",
                    Protocol::Multiboot(_) => "multiboot",
                    Protocol::LinuxPc(_) => "linux",
                };
                (name, placement.entry.as_usize() as u64)
            })
        };
        let plain = code([0xf4; 8].into());
        let bare = protocol(core::slice::from_ref(&plain));
        assert_eq!(bare, Err(ImageError::ElfNoPcEntry));
        let note = Segment::pvh_note(0x10_0100);
        assert_eq!(protocol(&[plain, note]), Ok(("pvh", 0x10_0100)));
        let elf = code(samples::multiboot_header(0, [0; 5]));
        assert_eq!(protocol(&[elf]), Ok(("multiboot", MIB + 4)));
        let addresses = [0x20_0000, 0x20_0000, 0, 0, 0x20_0010];
        let own = code(samples::multiboot_header(1 << 16, addresses));
        assert_eq!(protocol(&[own]), Ok(("multiboot", 0x20_0010)));
    }

    #[test]
    fn a_machine_that_knows_no_linux_and_no_elf_boots_flat_images_alone() {
        let ram = ram();
        let rules = BootRules {
            elf_machines: &[],
            linux: None,
            ..riscv(&ram)
        };
        let elf = samples::elf(EM_RISCV, RAM, &[Segment::load(RAM, RAM, 4, 4)]);
        let expected = ImageError::WrongFormat(ImageFormat::Elf);
        assert_eq!(placed(&samples::boot(&elf), &rules), Err(expected));
        assert_ne!(rules.linux, Some(LinuxFormat::BzImage));
    }
}
