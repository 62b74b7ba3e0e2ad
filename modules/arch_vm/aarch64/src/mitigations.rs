// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What guests are told about speculation: the workarounds of the firmware.
//!
//! Found out once for each machine, from the CPU's identification and, where
//! there is an EL3, from the real firmware's own answers. A guest's call of a
//! workaround goes on to the real firmware only if that said to need it.
//!
//! Spec: Arm SMC Calling Convention, "Arm Architecture Calls"; Arm, "Cache
//! Speculation Side-channels", firmware interfaces (DEN 0070).

use tock_registers::{LocalRegisterCopy, interfaces::Readable};

use crate::regs::{ID_AA64PFR0_EL1, ID_AA64PFR1_EL1, PFR0, PFR1, firmware_call};

/// The workarounds for branch targets (1), store bypass (2) and history (3).
pub(crate) const WORKAROUNDS: [u32; 3] = [0x8000_8000, 0x8000_7fff, 0x8000_3fff];

const PSCI_FEATURES: u32 = 0x8400_000a;
const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_FEATURES: u32 = 0x8000_0001;
const SMCCC_1_1: i64 = 1 << 16 | 1;

/// This CPU does not need it.
const NOT_NEEDED: i64 = 1;
/// It must be called.
const NEEDED: i64 = 0;
const NOT_SUPPORTED: i64 = -1;
/// CSV2 from which on branch history is kept apart, too.
const CSV2_HISTORY: u64 = 3;

/// What SMCCC_ARCH_FEATURES answers for each of [`WORKAROUNDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mitigations([i64; WORKAROUNDS.len()]);

impl Mitigations {
    /// Asks this CPU and its firmware.
    pub(crate) fn read() -> Self {
        let has_firmware = ID_AA64PFR0_EL1.read(PFR0::EL3) != 0;
        let call = |function, argument| match has_firmware {
            true => firmware_call(function, argument),
            false => NOT_SUPPORTED,
        };
        Self::of(ID_AA64PFR0_EL1.get(), ID_AA64PFR1_EL1.get(), &call)
    }

    fn of(pfr0: u64, pfr1: u64, firmware: &dyn Fn(u32, u64) -> i64) -> Self {
        let csv2 = LocalRegisterCopy::<u64, PFR0::Register>::new(pfr0).read(PFR0::CSV2);
        let has_ssbs = LocalRegisterCopy::<u64, PFR1::Register>::new(pfr1).is_set(PFR1::SSBS);
        let has_features = firmware(PSCI_FEATURES, SMCCC_VERSION.into()) >= 0
            && firmware(SMCCC_VERSION, 0) >= SMCCC_1_1;
        let told = |workaround: u32| match has_features {
            true => firmware(SMCCC_FEATURES, workaround.into()).clamp(NOT_SUPPORTED, NOT_NEEDED),
            false => NOT_SUPPORTED,
        };
        let [targets, bypass, history] = WORKAROUNDS;
        Self([
            if csv2 > 0 { NOT_NEEDED } else { told(targets) },
            // The guest switches it by PSTATE.SSBS.
            if has_ssbs {
                NOT_SUPPORTED
            } else {
                told(bypass)
            },
            if csv2 >= CSV2_HISTORY {
                NOT_NEEDED
            } else {
                told(history)
            },
        ])
    }

    /// Returns the answer for a workaround, if `function` is one.
    pub(crate) fn answer(&self, function: u32) -> Option<i64> {
        let at = WORKAROUNDS.iter().position(|known| *known == function)?;
        self.0.get(at).copied()
    }

    /// Tells whether a call goes on to the real firmware.
    pub(crate) fn is_needed(&self, function: u32) -> bool {
        self.answer(function) == Some(NEEDED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: u32 = WORKAROUNDS[0];
    const BYPASS: u32 = WORKAROUNDS[1];
    const HISTORY: u32 = WORKAROUNDS[2];

    fn absent(_: u32, _: u64) -> i64 {
        NOT_SUPPORTED
    }

    /// A firmware that needs to be called for branch targets only.
    fn firmware(function: u32, argument: u64) -> i64 {
        match (function, argument as u32) {
            (PSCI_FEATURES, SMCCC_VERSION) => 0,
            (SMCCC_VERSION, _) => SMCCC_1_1,
            (SMCCC_FEATURES, TARGETS) => 0,
            (SMCCC_FEATURES, BYPASS) => 1,
            _ => NOT_SUPPORTED,
        }
    }

    #[test]
    fn a_cpu_that_keeps_contexts_apart_needs_no_workaround() {
        let found = Mitigations::of(3 << 56, 0x10, &absent);
        assert_eq!(found.answer(TARGETS), Some(NOT_NEEDED));
        assert_eq!(found.answer(BYPASS), Some(NOT_SUPPORTED));
        assert_eq!(found.answer(HISTORY), Some(NOT_NEEDED));
        assert_eq!(found.answer(0x8000_0002), None);
    }

    #[test]
    fn a_cpu_without_a_word_is_as_its_firmware_says() {
        let found = Mitigations::of(0, 0, &firmware);
        assert!(found.is_needed(TARGETS));
        assert_eq!(found.answer(BYPASS), Some(NOT_NEEDED));
        assert!(!found.is_needed(HISTORY));
        let unknown = Mitigations::of(0, 0, &absent);
        assert_eq!(unknown.answer(TARGETS), Some(NOT_SUPPORTED));
    }

    #[test]
    fn firmware_of_an_older_convention_is_not_asked() {
        let old = |function, argument| match function {
            SMCCC_VERSION => 1 << 16,
            _ => firmware(function, argument),
        };
        let found = Mitigations::of(0, 0, &old);
        assert_eq!(found.answer(TARGETS), Some(NOT_SUPPORTED));
    }
}
