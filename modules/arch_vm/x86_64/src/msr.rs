// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The model-specific registers that are values only.
//!
//! An allow-list: what is not here, nor the vCPU's own business, raises #GP.
//! Nothing that is written here reaches the host. Memory types are kept for the
//! guest to read back; its page attributes alone take effect.
//!
//! Spec: AMD64 APM 2, "MSR Cross-Reference", "Memory-Type Range Registers".

use crate::regs::Msr;

/// Eight variable ranges, fixed ranges, write-combining.
const MTRR_CAP: u64 = 0x508;
const VARIABLE: usize = 16;
const FIXED: [Msr; 11] = [
    Msr::MTRR_FIX_64K,
    Msr::MTRR_FIX_16K,
    Msr(Msr::MTRR_FIX_16K.0 + 1),
    Msr::MTRR_FIX_4K,
    Msr(Msr::MTRR_FIX_4K.0 + 1),
    Msr(Msr::MTRR_FIX_4K.0 + 2),
    Msr(Msr::MTRR_FIX_4K.0 + 3),
    Msr(Msr::MTRR_FIX_4K.0 + 4),
    Msr(Msr::MTRR_FIX_4K.0 + 5),
    Msr(Msr::MTRR_FIX_4K.0 + 6),
    Msr(Msr::MTRR_FIX_4K.0 + 7),
];
/// All of memory is write-back, and both kinds of ranges are on.
const MTRR_DEFAULT: u64 = 0xc06;
const MTRR_DEFAULT_BITS: u64 = 0xcff;
const ALL_WRITE_BACK: u64 = 0x0606_0606_0606_0606;
/// Physical addresses have 40 bits.
const PHYSICAL: u64 = 0xff_ffff_ffff;
const VALID: u64 = 1 << 11;

/// The counter runs at the rate of the fastest state.
const HWCR: u64 = 1 << 24;
/// LFENCE waits for what is before it.
const DE_CFG: u64 = 1 << 1;
const MICROCODE: u64 = 0x0100_0065;
const FAST_STRINGS: u64 = 1;

/// A vCPU's registers of this kind.
#[derive(Clone, Debug)]
pub(crate) struct Msrs {
    mtrr_default: u64,
    mtrr_fixed: [u64; FIXED.len()],
    mtrr_variable: [u64; VARIABLE],
    /// What RDTSCP returns besides the counter.
    pub(crate) tsc_aux: u64,
}

impl Msrs {
    /// Makes the registers as firmware leaves them.
    pub(crate) fn new() -> Self {
        Self {
            mtrr_default: MTRR_DEFAULT,
            mtrr_fixed: [ALL_WRITE_BACK; FIXED.len()],
            mtrr_variable: [0; VARIABLE],
            tsc_aux: 0,
        }
    }

    /// Returns a register's value, or `None` for #GP.
    pub(crate) fn read(&self, msr: Msr) -> Option<u64> {
        if let Some(index) = variable(msr) {
            return self.mtrr_variable.get(index).copied();
        }
        if let Some(index) = fixed(msr) {
            return self.mtrr_fixed.get(index).copied();
        }
        match msr {
            Msr::MTRR_CAP => Some(MTRR_CAP),
            Msr::MTRR_DEFAULT => Some(self.mtrr_default),
            Msr::MICROCODE => Some(MICROCODE),
            Msr::MISC_ENABLE => Some(FAST_STRINGS),
            Msr::HWCR => Some(HWCR),
            Msr::DE_CFG => Some(DE_CFG),
            _ if is_ignored(msr) => Some(0),
            _ => None,
        }
    }

    /// Takes a register's new value, or returns `None` for #GP.
    pub(crate) fn write(&mut self, msr: Msr, value: u64) -> Option<()> {
        if let Some(index) = variable(msr) {
            let slot = self.mtrr_variable.get_mut(index)?;
            *slot = is_range(index, value).then_some(value)?;
            return Some(());
        }
        if let Some(index) = fixed(msr) {
            let types = value.to_le_bytes();
            let slot = self.mtrr_fixed.get_mut(index)?;
            *slot = types.into_iter().all(is_type).then_some(value)?;
            return Some(());
        }
        match msr {
            Msr::MTRR_DEFAULT if value & !MTRR_DEFAULT_BITS == 0 && is_type(value as u8) => {
                self.mtrr_default = value;
            }
            Msr::MICROCODE | Msr::MISC_ENABLE | Msr::HWCR | Msr::DE_CFG => {}
            _ if is_ignored(msr) => {}
            _ => return None,
        }
        Some(())
    }
}

/// Tells whether a register reads as zero and takes anything.
fn is_ignored(msr: Msr) -> bool {
    matches!(
        msr,
        Msr::PLATFORM_ID
            | Msr::MCG_CAP
            | Msr::MCG_STATUS
            | Msr::SYSCFG
            | Msr::NB_CFG
            | Msr::LS_CFG
            | Msr::INTERRUPT_PENDING
    )
}

fn variable(msr: Msr) -> Option<usize> {
    let index = msr.0.checked_sub(Msr::MTRR_VARIABLE.0)? as usize;
    (index < VARIABLE).then_some(index)
}

fn fixed(msr: Msr) -> Option<usize> {
    FIXED.iter().position(|fixed| *fixed == msr)
}

/// Tells whether a value is a memory type.
pub(crate) fn is_type(value: u8) -> bool {
    matches!(value, 0 | 1 | 4 | 5 | 6)
}

/// Tells whether a value is a base with a type, or a mask.
fn is_range(index: usize, value: u64) -> bool {
    let is_base = index & 1 == 0;
    match is_base {
        true => is_type(value as u8) && value & !(PHYSICAL & !0xfff | 0xff) == 0,
        false => value & !(PHYSICAL & !0xfff | VALID) == 0,
    }
}

/// Tells whether a value can be the page attribute table.
pub(crate) fn is_page_attributes(value: u64) -> bool {
    let types = value.to_le_bytes();
    // UC- is 7.
    types.into_iter().all(|it| is_type(it) || it == 7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_kept_and_checked() {
        let mut msrs = Msrs::new();
        assert_eq!(msrs.write(Msr(0x200), 0xc000_0000), Some(()));
        assert_eq!(msrs.write(Msr(0x201), 0xff_c000_0800), Some(()));
        assert_eq!(msrs.read(Msr(0x201)), Some(0xff_c000_0800));
        assert_eq!(msrs.write(Msr(0x200), 2), None, "no such type");
        assert_eq!(msrs.write(Msr(0x201), 1 << 40), None, "no such address");
        assert_eq!(msrs.write(Msr(0x26f), ALL_WRITE_BACK), Some(()));
        assert_eq!(msrs.write(Msr(0x26f), 3), None);
        assert_eq!(msrs.write(Msr::MTRR_DEFAULT, 0x400), Some(()));
        assert_eq!(msrs.write(Msr::MTRR_CAP, 0), None);
    }

    #[test]
    fn unknown_registers_are_refused() {
        let mut msrs = Msrs::new();
        for msr in [
            Msr::VM_HSAVE_PA,
            Msr::LSTAR,
            Msr(0x48),
            Msr(0x49),
            Msr(0x210),
        ] {
            assert_eq!(msrs.read(msr), None);
            assert_eq!(msrs.write(msr, 0), None);
        }
    }

    #[test]
    fn what_kernels_ask_an_old_amd_for_is_nothing() {
        // The deep idle state of family 15, which QEMU's `max` is.
        let mut msrs = Msrs::new();
        assert_eq!(msrs.read(Msr(0xc001_0055)), Some(0));
        assert_eq!(msrs.write(Msr(0xc001_0055), 1 << 27), Some(()));
        assert_eq!(msrs.read(Msr(0xc001_0055)), Some(0));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_or_was_ignored(number: u32, value: u64) {
            let mut msrs = Msrs::new();
            let before = msrs.read(Msr(number));
            let written = msrs.write(Msr(number), value);
            let after = msrs.read(Msr(number));
            match written {
                None => prop_assert_eq!(after, before),
                Some(()) => prop_assert!(after == Some(value) || after == before),
            }
        }
    }
}
