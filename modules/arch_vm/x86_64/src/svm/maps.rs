// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Which I/O ports and model-specific registers a guest reaches by itself.
//!
//! No port, and those registers alone that VMSAVE and VMLOAD move or that lie in
//! the control block: they are the guest's own while it runs. One pair of maps
//! serves all vCPUs of a VM.
//!
//! Spec: AMD64 APM 2, "I/O Intercepts", "MSR Intercepts".

use axvm::{AxVCpuHal, Result};

use crate::{
    frames::{Frames, PAGE_BYTES},
    regs::Msr,
};

/// The map of ports has 12 KiB and a byte; frames come in powers of two.
const FRAMES: usize = 8;
const IO_FRAMES: usize = 4;

const OPEN: [Msr; 10] = [
    Msr::SYSENTER_CS,
    Msr::SYSENTER_ESP,
    Msr::SYSENTER_EIP,
    Msr::STAR,
    Msr::LSTAR,
    Msr::CSTAR,
    Msr::SFMASK,
    Msr::FS_BASE,
    Msr::GS_BASE,
    Msr::KERNEL_GS_BASE,
];

/// The intercept maps of one VM.
pub(crate) struct Maps<H: AxVCpuHal> {
    frames: Frames<H>,
}

impl<H: AxVCpuHal> Maps<H> {
    /// Makes the maps.
    pub(crate) fn new(hal: &H) -> Result<Self> {
        let mut frames = Frames::new(hal, FRAMES)?;
        let bytes = frames.bytes();
        bytes.fill(u8::MAX);
        for msr in OPEN {
            open(bytes, msr);
        }
        Ok(Self { frames })
    }

    /// Returns the physical address of the map of ports.
    pub(crate) fn io(&self) -> u64 {
        self.frames.physical(0)
    }

    /// Returns the physical address of the map of registers.
    pub(crate) fn msr(&self) -> u64 {
        self.frames.physical(IO_FRAMES)
    }
}

/// Lets a guest read and write a register.
fn open(bytes: &mut [u8], msr: Msr) {
    let Some((byte, bits)) = place(msr) else {
        return;
    };
    let at = byte.saturating_add(IO_FRAMES.saturating_mul(PAGE_BYTES));
    if let Some(byte) = bytes.get_mut(at) {
        *byte &= !bits;
    }
}

/// Returns the byte of a register in the map, and its two bits there.
fn place(msr: Msr) -> Option<(usize, u8)> {
    const VECTOR_BYTES: usize = 0x800;
    const PER_VECTOR: u32 = 0x2000;
    let starts = [0, 0xc000_0000, 0xc001_0000];
    let found = starts.into_iter().enumerate().find_map(|(vector, start)| {
        let offset = msr.0.checked_sub(start).filter(|it| *it < PER_VECTOR)?;
        Some((vector, offset))
    });
    let (vector, offset) = found?;
    let byte = vector
        .saturating_mul(VECTOR_BYTES)
        .saturating_add(offset as usize / 4);
    // Four registers share a byte.
    let shift = (offset & 3).wrapping_mul(2);
    Some((byte, 0b11_u8.wrapping_shl(shift)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_has_two_bits_in_the_map_of_its_range() {
        assert_eq!(place(Msr(0)), Some((0, 0b11)));
        assert_eq!(place(Msr(0x1fff)), Some((0x7ff, 0b1100_0000)));
        assert_eq!(place(Msr(0xc000_0080)), Some((0x820, 0b11)));
        assert_eq!(place(Msr(0xc001_0015)), Some((0x1005, 0b1100)));
        assert_eq!(place(Msr(0x2000)), None);
        assert_eq!(place(Msr(0xc001_2000)), None);
    }

    #[test]
    fn a_guest_reaches_only_what_is_its_own() {
        let mut bytes = std::vec![u8::MAX; FRAMES * PAGE_BYTES];
        for msr in OPEN {
            open(&mut bytes, msr);
        }
        let is_open = |msr: Msr| {
            let (byte, bits) = place(msr).unwrap();
            bytes[IO_FRAMES * PAGE_BYTES + byte] & bits == 0
        };
        assert!(is_open(Msr::LSTAR));
        for msr in [Msr::EFER, Msr::VM_HSAVE_PA, Msr::APIC_BASE, Msr::PAT] {
            assert!(!is_open(msr), "{msr:?}");
        }
        let shut = bytes.iter().map(|byte| byte.count_ones() as usize);
        assert_eq!(shut.sum::<usize>(), bytes.len() * 8 - 2 * OPEN.len());
    }
}
