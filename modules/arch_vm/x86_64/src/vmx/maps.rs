// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Which model-specific registers a guest reaches by itself.
//!
//! Those alone that the VMCS holds or that the hypervisor never uses and that
//! move with the vCPU. One map serves all vCPUs of a VM; every port exits.
//!
//! Spec: Intel SDM 3, "MSR-Bitmap Address".

use axvm::{AxVCpuHal, Result};

use crate::{frames::Frames, regs::Msr};

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
const WRITES: usize = 2 * PART_BYTES;
const HIGH: u32 = 0xc000_0000;

/// The map of one VM.
pub(crate) struct Maps<H: AxVCpuHal> {
    frames: Frames<H>,
}

impl<H: AxVCpuHal> Maps<H> {
    /// Makes the map.
    pub(crate) fn new(hal: &H) -> Result<Self> {
        let mut frames = Frames::new(hal, 1)?;
        let bytes = frames.bytes();
        bytes.fill(u8::MAX);
        for msr in MOVED.into_iter().chain(HELD) {
            open(bytes, msr);
        }
        Ok(Self { frames })
    }

    /// Returns the map's physical address.
    pub(super) fn msr(&self) -> u64 {
        self.frames.physical(0)
    }
}

/// Lets a guest read and write a register.
fn open(bytes: &mut [u8], msr: Msr) {
    let (part, number) = match msr.0.checked_sub(HIGH) {
        Some(number) => (PART_BYTES, number),
        None => (0, msr.0),
    };
    let at = part.saturating_add(number as usize / 8);
    for at in [at, at.saturating_add(WRITES)] {
        if let Some(byte) = bytes.get_mut(at) {
            *byte &= !(1 << (number % 8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_reaches_only_what_is_its_own() {
        let mut bytes = std::vec![u8::MAX; 4096];
        for msr in MOVED.into_iter().chain(HELD) {
            open(&mut bytes, msr);
        }
        let shut: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(shut, 4096 * 8 - 2 * 10);
        // LSTAR: number 0x82 of the upper range.
        assert_eq!(
            (bytes[1024 + 0x10], bytes[3072 + 0x10] & 4),
            (0b1110_0001, 0)
        );
    }
}
