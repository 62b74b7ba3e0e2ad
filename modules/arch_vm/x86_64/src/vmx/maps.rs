// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Which model-specific registers a guest reaches by itself.
//!
//! Those alone that the VMCS holds or that the hypervisor never uses and that
//! move with the vCPU; and those of the local APIC while the CPU virtualizes it. The
//! maps serve all vCPUs of a VM; every port exits.
//!
//! Spec: Intel SDM 3, "MSR-Bitmap Address", "Virtualizing MSR-Based APIC Accesses",
//! "Virtualizing Memory-Mapped APIC Accesses".

use core::ops::RangeInclusive;

use axvm::{AxVCpuHal, GuestPhysAddr, HostPhysAddr, Result, stage2::LivePages};

use super::{Features, apic};
use crate::{
    frames::{Frames, PAGE_BYTES},
    irqchip::lapic::{self, Mode},
    nested::Nested,
    regs::Msr,
};

/// What the hypervisor does not use: moved when the vCPU is switched.
pub(super) const MOVED: [Msr; 5] = [
    Msr::STAR,
    Msr::LSTAR,
    Msr::CSTAR,
    Msr::SFMASK,
    Msr::KERNEL_GS_BASE,
];
/// What the VMCS holds.
const HELD: [Msr; 5] = [
    Msr::SYSENTER_CS,
    Msr::SYSENTER_ESP,
    Msr::SYSENTER_EIP,
    Msr::FS_BASE,
    Msr::GS_BASE,
];

/// Where the map's four parts start: reads and writes, low and high numbers.
const PART_BYTES: usize = 1024;
const READS: usize = 0;
const WRITES: usize = 2 * PART_BYTES;
const HIGH: u32 = 0xc000_0000;

/// What of a local APIC that the CPU has is there to be read: all but the base,
/// commands and the timer's count.
const READ: [RangeInclusive<u32>; 7] = [
    0x802..=0x803,
    0x808..=0x808,
    0x80a..=0x80a,
    0x80d..=0x80d,
    0x80f..=0x828,
    0x832..=0x838,
    0x83e..=0x83e,
];
/// And what can be written: the task priority, the end, an interrupt to itself.
const WRITTEN: [Msr; 3] = [Msr(0x808), Msr::X2APIC_END, Msr::X2APIC_SELF_IPI];

/// The maps of one VM, and the page at which its local APICs are in memory.
pub(crate) struct Maps<H: AxVCpuHal> {
    frames: Frames<H>,
    apic_page: Option<Frames<H>>,
}

/// For a guest whose local APIC is software's, and for one whose is the CPU's.
const OWN: usize = 0;
const WITH_APIC: usize = 1;

impl<H: AxVCpuHal> Maps<H> {
    /// Makes the maps of a VM with these nested page tables and their format.
    pub(crate) fn new(hal: &H, features: Features, nested: (HostPhysAddr, Nested)) -> Result<Self> {
        let mut frames = Frames::new(hal, 2)?;
        let (own, with_apic) = frames.bytes().split_at_mut(PAGE_BYTES);
        open_own(own);
        open_own(with_apic);
        open_apic(with_apic);
        let apic_page = match features.apic.contains(apic::BY_PAGE) {
            true => Some(show_apic_page(hal, nested)?),
            false => None,
        };
        Ok(Self { frames, apic_page })
    }

    /// Returns the physical address of the page at which local APICs are in memory,
    /// if the CPU does accesses to them.
    pub(super) fn apic_page(&self) -> Option<u64> {
        self.apic_page.as_ref().map(|page| page.physical(0))
    }

    /// Returns the physical address of the map for a local APIC that the CPU has.
    pub(super) fn msr(&self, mode: Mode) -> u64 {
        self.frames.physical(match mode {
            Mode::X2Apic => WITH_APIC,
            Mode::XApic | Mode::Disabled => OWN,
        })
    }
}

/// Puts a page where local APICs are in memory: accesses to it are the CPU's, but
/// for those of a vCPU that reaches its own by MSRs, for which it is memory.
fn show_apic_page<H: AxVCpuHal>(
    hal: &H,
    (root, format): (HostPhysAddr, Nested),
) -> Result<Frames<H>> {
    let page = Frames::new(hal, 1)?;
    let at = GuestPhysAddr::from_usize(lapic::PAGE as usize);
    // SAFETY: 1. the root is of `new_page_table`, which takes the same format; 2. it
    // is there while its machine is made; 3. neither RAM nor anything else is
    // mapped around the local APICs.
    let live = unsafe { LivePages::open(hal, format, root, (at, 1)) }?;
    live.set(0, Some(HostPhysAddr::from_usize(page.physical(0) as usize)));
    Ok(page)
}

fn open_own(map: &mut [u8]) {
    map.fill(u8::MAX);
    for msr in MOVED.into_iter().chain(HELD) {
        open(map, READS, msr);
        open(map, WRITES, msr);
    }
}

fn open_apic(map: &mut [u8]) {
    for msr in READ.into_iter().flatten() {
        open(map, READS, Msr(msr));
    }
    for msr in WRITTEN {
        open(map, WRITES, msr);
    }
}

/// Lets a guest read or write a register.
fn open(map: &mut [u8], part: usize, msr: Msr) {
    let (half, number) = match msr.0.checked_sub(HIGH) {
        Some(number) => (PART_BYTES, number),
        None => (0, msr.0),
    };
    let at = part
        .saturating_add(half)
        .saturating_add(number as usize / 8);
    if let Some(byte) = map.get_mut(at) {
        *byte &= !(1 << (number % 8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_reaches_only_what_is_its_own() {
        let mut bytes = std::vec![0; PAGE_BYTES];
        open_own(&mut bytes);
        let shut: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(shut, 4096 * 8 - 2 * 10);
        // LSTAR: number 0x82 of the upper range.
        assert_eq!(
            (bytes[1024 + 0x10], bytes[3072 + 0x10] & 4),
            (0b1110_0001, 0)
        );
    }

    #[test]
    fn of_a_virtualized_local_apic_it_reaches_what_the_page_holds() {
        let mut bytes = std::vec![u8::MAX; PAGE_BYTES];
        open_apic(&mut bytes);
        let shut: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(shut, 4096 * 8 - (2 + 1 + 1 + 1 + 26 + 7 + 1) - 3);
        let is_open = |part: usize, msr: usize| bytes[part + msr / 8] >> (msr % 8) & 1 == 0;
        for msr in [0x808, 0x80b, 0x83f] {
            assert!(is_open(WRITES, msr));
        }
        // Commands, the count, the end.
        for msr in [0x80b, 0x830, 0x839, 0x83f] {
            assert!(!is_open(READS, msr), "{msr:x}");
        }
    }
}
