// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Where the kernel, the device tree and the initrd go.
//!
//! The machine states its [`BootRules`]; the kernel goes where its format says,
//! the device tree and the initrd go high, within the first GiB after the
//! kernel where there is room. What is placed is wholly in RAM, outside what
//! the machine keeps, and overlaps nothing.
//!
//! Spec: Linux, arm64/booting.rst, riscv/boot.rst, x86/boot.rst.

use alloc::vec::Vec;

use axvm_types::GuestPhysAddr;

use super::{
    BootRules, BzImage, FdtPosition, GuestRange, Handover, Image, ImageError, ImageFormat,
    Multiboot, bytes::length, fdt, kernel::Kernel, space::Space,
};
use crate::{BootConfig, RamRegion};

pub(super) const PAGE_BYTES: u64 = 4 << 10;
pub(super) const LARGE_PAGE_BYTES: u64 = 2 << 20;
pub(super) const HUGE_PAGE_BYTES: u64 = 1 << 30;
/// What 32-bit boot protocols can name.
const LIMIT_32_BIT: u64 = 1 << 32;

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
pub(super) struct Placer<'r, 'a> {
    pub(super) rules: &'r BootRules<'r>,
    pub(super) boot: &'a BootConfig,
    pub(super) space: Space,
}

impl<'a> Placer<'_, 'a> {
    /// Room for the device tree: the machine's own, or the one given.
    fn fdt(&mut self, format: ImageFormat, near: u64) -> Result<Option<GuestRange>, ImageError> {
        let Handover::Fdt { room_bytes, elf } = self.rules.handover else {
            return match self.boot.dtb {
                Some(_) => Err(ImageError::FdtUnknown),
                None => Ok(None),
            };
        };
        let size_bytes = match &self.boot.dtb {
            None => room_bytes,
            Some(dtb) => fdt::given_room_bytes(dtb, &self.boot.cmdline)?,
        };
        let at_start = (format == ImageFormat::Elf && elf == FdtPosition::RamStart)
            .then(|| self.space.take(self.ram_offset(0), size_bytes))
            .flatten();
        // Kernels of old want it not to cross a multiple of 2 MiB; VMs with
        // little RAM have no choice.
        let high = || {
            [LARGE_PAGE_BYTES, PAGE_BYTES]
                .into_iter()
                .find_map(|align| self.high(size_bytes, align, near))
        };
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
    pub(super) fn ram_offset(&self, offset: u64) -> u64 {
        let start = self.rules.ram.first();
        let start = start.map_or(0, |&region| GuestRange::from(region).first());
        start.saturating_add(offset)
    }
}

/// Tells whether RAM has the address.
pub(super) fn in_ram(ram: &[RamRegion], address: u64) -> bool {
    ram.iter()
        .any(|&region| GuestRange::from(region).contains(address))
}

/// Makes a guest address of a number.
pub(super) fn address(value: u64) -> GuestPhysAddr {
    GuestRange::new(value, 0).start
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::boot::{
        Handover, LinuxKind, recognise,
        samples::{self, MIB, Segment, pc, region, riscv},
    };

    const RAM: u64 = 0x8000_0000;

    fn linux(memory_bytes: u64) -> BootConfig {
        samples::boot(&samples::linux(
            LinuxKind::Riscv,
            2 * MIB,
            memory_bytes,
            100,
        ))
    }

    fn placed<'a>(
        boot: &'a BootConfig,
        rules: &BootRules<'_>,
    ) -> Result<Placement<'a>, ImageError> {
        place(&recognise(&boot.kernel)?, boot, rules)
    }

    #[test]
    fn the_tree_and_the_initrd_go_high_and_aligned() {
        let ram = [region(RAM, 256 * MIB)];
        let mut boot = linux(MIB);
        boot.initrd = Some(samples::shared(&[7; 5000]));
        let placement = placed(&boot, &riscv(&ram)).unwrap();
        let (fdt, initrd) = (placement.fdt.unwrap(), placement.initrd.unwrap());
        assert_eq!(fdt.first(), RAM + 254 * MIB);
        assert_eq!(initrd.range.end(), RAM + 256 * MIB - 8192 + 5000);
        assert_eq!(initrd.range.first() % PAGE_BYTES, 0);
        assert_eq!(initrd.bytes.len(), 5000);
    }

    #[test]
    fn both_stay_within_a_gib_of_the_kernel_where_there_is_room() {
        let ram = [region(RAM, 8192 * MIB)];
        let mut boot = linux(MIB);
        boot.initrd = Some(samples::shared(&[7; 5000]));
        let placement = placed(&boot, &riscv(&ram)).unwrap();
        let limit = RAM + 2 * MIB + HUGE_PAGE_BYTES;
        assert!(placement.fdt.unwrap().end() <= limit);
        assert!(placement.initrd.unwrap().range.end() <= limit);
    }

    #[test]
    fn bare_metal_elves_find_the_tree_at_the_start_of_ram_where_boards_leave_it_there() {
        let ram = [region(RAM, 64 * MIB)];
        let rules = BootRules {
            handover: Handover::Fdt {
                room_bytes: 64 << 10,
                elf: FdtPosition::RamStart,
            },
            ..riscv(&ram)
        };
        let fdt = |start: u64| {
            let segment = Segment::load(start, start, 16, 64);
            let boot = samples::boot(&samples::elf(samples::EM_RISCV, start, &[segment]));
            placed(&boot, &rules).unwrap().fdt.unwrap().first()
        };
        assert_eq!(fdt(RAM + 2 * MIB), RAM);
        assert_eq!(fdt(RAM), RAM + 62 * MIB);
        let fdt = placed(&linux(MIB), &rules).unwrap().fdt.unwrap();
        assert_eq!(fdt.first(), RAM + 62 * MIB);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_size() {
        let ram = [region(RAM, 64 * MIB)];
        let mut boot = linux(60 * MIB);
        boot.initrd = Some(samples::shared(&vec![7; 3 << 20]));
        let expected = ImageError::InitrdTooLarge {
            size_bytes: 3 * MIB,
            room_bytes: 2 * MIB,
        };
        assert_eq!(placed(&boot, &riscv(&ram)).unwrap_err(), expected);
        let rules = BootRules {
            handover: Handover::Fdt {
                room_bytes: 4 * MIB,
                elf: FdtPosition::High,
            },
            ..riscv(&ram)
        };
        let size_bytes = 4 * MIB;
        let expected = ImageError::NoRoomForFdt { size_bytes };
        assert_eq!(placed(&boot, &rules).unwrap_err(), expected);
    }

    #[test]
    fn a_pc_keeps_the_initrd_below_what_its_kernel_accepts() {
        let ram = [region(0, 64 * MIB)];
        let mut kernel = samples::bzimage(16 * MIB, 1 << 20, 4096);
        samples::put(&mut kernel, 0x22c, &(32 * MIB as u32 - 1).to_le_bytes());
        let mut boot = samples::boot(&kernel);
        boot.initrd = Some(samples::shared(&[7; 5000]));
        let initrd = placed(&boot, &pc(&ram)).unwrap().initrd.unwrap();
        assert_eq!(initrd.range.first(), 32 * MIB - 8192);
        boot.dtb = Some(samples::shared(&[0; 64]));
        assert_eq!(placed(&boot, &pc(&ram)), Err(ImageError::FdtUnknown));
    }

    #[test]
    fn a_tiny_vm_has_room_for_its_tree_too() {
        let ram = [region(0, 2 * MIB)];
        let rules = BootRules {
            flat_offset: Some(0),
            ..riscv(&ram)
        };
        let boot = samples::boot(&[0x13, 0, 0, 0]);
        let fdt = placed(&boot, &rules).unwrap().fdt.unwrap();
        assert_eq!(fdt.end(), 2 * MIB);
    }

    /// Checks that everything is in RAM, outside what is kept, and disjoint.
    fn check(placement: &Placement<'_>, rules: &BootRules<'_>) {
        let kernel = placement.kernel.iter().chain(&placement.initrd);
        let mut ranges: Vec<_> = kernel.map(|part| part.range).collect();
        for part in placement.kernel.iter().chain(&placement.initrd) {
            assert!(length(part.bytes) <= part.range.size_bytes);
        }
        ranges.extend(placement.fdt);
        let ram: Vec<GuestRange> = rules.ram.iter().map(|&ram| ram.into()).collect();
        for range in &ranges {
            let holds = |ram: &GuestRange| ram.first() <= range.first() && range.end() <= ram.end();
            assert!(ram.iter().any(holds), "{range:x?} is outside RAM");
        }
        ranges.extend(rules.reserved);
        ranges.sort_by_key(GuestRange::first);
        for pair in ranges.windows(2) {
            assert!(pair[0].end() <= pair[1].first(), "{pair:x?} overlap");
        }
        assert!(in_ram(rules.ram, placement.entry.as_usize() as u64));
    }

    prop_compose! {
        /// An address near something that matters, or anywhere.
        fn any_address()(
            base in prop::sample::select(vec![
                0, RAM, RAM + 64 * MIB, 0xffff_ffc0_8020_0000, 1 << 32, u64::MAX - 4 * MIB,
            ]),
            offset in 0..4 * MIB,
            is_aligned in any::<bool>(),
        ) -> u64 {
            base + if is_aligned { offset & !(MIB - 1) } else { offset }
        }
    }

    prop_compose! {
        fn any_segment()(
            physical in any_address(),
            virt in any_address(),
            is_flat in any::<bool>(),
            file_bytes in 0..64usize,
            memory_bytes in 0..6 * MIB,
        ) -> Segment {
            let virt = if is_flat { physical } else { virt };
            Segment::load(physical, virt, file_bytes, memory_bytes)
        }
    }

    fn any_kernel() -> impl Strategy<Value = Vec<u8>> {
        let segments = proptest::collection::vec(any_segment(), 1..4);
        prop_oneof![
            (any_address(), segments, any::<bool>(), any::<u32>()).prop_map(
                |(entry, mut segments, is_pc, pvh)| {
                    segments.push(Segment::pvh_note(pvh >> 8));
                    let machine = if is_pc {
                        samples::EM_X86_64
                    } else {
                        samples::EM_RISCV
                    };
                    samples::elf(machine, entry, &segments)
                }
            ),
            (any_address(), any_address(), 64..200usize).prop_map(|(offset, size, file)| {
                samples::linux(LinuxKind::Riscv, offset, size, file)
            }),
            (any_address(), any::<u32>(), 16..4096usize)
                .prop_map(|(preferred, init, file)| samples::bzimage(preferred, init >> 6, file)),
            proptest::collection::vec(any::<u8>(), 1..200),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_placed_is_in_ram_and_overlaps_nothing(
            kernel in any_kernel(),
            initrd in 0..40_000usize,
            load in proptest::option::weighted(0.2, any_address()),
            entry in proptest::option::weighted(0.1, any_address()),
            is_pc in any::<bool>(),
            sizes in (1..32u64, 0..32u64),
        ) {
            let start = if is_pc { 0 } else { RAM };
            let second = region(start + (1 << 32), sizes.1 * 2 * MIB);
            let ram = [region(start, sizes.0 * 2 * MIB), second];
            let rules = if is_pc { pc(&ram) } else { riscv(&ram) };
            let mut boot = samples::boot(&kernel);
            boot.initrd = Some(samples::shared(&vec![1; initrd]));
            (boot.load, boot.entry) = (load, entry);
            if let Ok(placement) = placed(&boot, &rules) {
                check(&placement, &rules);
            }
        }
    }
}
