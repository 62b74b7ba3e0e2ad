// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The calls that are not PSCI's: the architecture's, random numbers, stolen time.
//!
//! Each function answers one row of `psci`'s table.
//!
//! Spec: Arm SMC Calling Convention (DEN 0028) 1.1, True Random Number Generator
//! Firmware Interface (DEN 0098) 1.0, Paravirtualized Time (DEN 0057) 1.0.

use crate::{
    mitigations::WORKAROUNDS,
    psci::{Action, Args, Firmware, INVALID_PARAMETERS, NOT_SUPPORTED, SUCCESS, find},
    trng::{self, WORDS},
};

pub(crate) const TRNG_VERSION: u32 = 0x8400_0050;
pub(crate) const TRNG_FEATURES: u32 = 0x8400_0051;
pub(crate) const TRNG_UUID: u32 = 0x8400_0052;
pub(crate) const TRNG_RND: u32 = 0x8400_0053;
/// Both have a 64-bit form only; these are the numbers without its bit.
pub(crate) const PV_TIME_FEATURES: u32 = 0x8500_0020;
pub(crate) const PV_TIME_ST: u32 = 0x8500_0021;

const TRNG_1_0: u64 = 1 << 16;
const NO_ENTROPY: u64 = -3_i64 as u64;
/// Who makes the random numbers: AxHive.
const UUID: [u64; 4] = [0x1be5_2f7c, 0x4f0a_9d3e, 0x61c8_2ba9, 0x93d7_40e5];
const PV_TIME_FEATURES_64: u32 = 0xc500_0020;
const PV_TIME_ST_64: u32 = 0xc500_0021;

fn told(is_there: bool) -> Action {
    Action::Answer(if is_there { SUCCESS } else { NOT_SUPPORTED })
}

/// SMCCC_ARCH_FEATURES: the architecture's calls, and stolen time.
pub(crate) fn features(args: &Args, firmware: &dyn Firmware) -> Action {
    let [function, ..] = args.values;
    let function = function as u32;
    if let Some(answer) = firmware.mitigations().answer(function) {
        return Action::Answer(answer as u64);
    }
    if function == PV_TIME_FEATURES_64 {
        return told(firmware.stolen_time().is_some());
    }
    let is_ours = function & 0xff00_0000 == 0x8000_0000;
    told(is_ours && find(function).is_some())
}

/// A workaround: done by the real firmware, not needed, or unknown.
pub(crate) fn workaround<const INDEX: usize>(args: &Args, firmware: &dyn Firmware) -> Action {
    let Some(&function) = WORKAROUNDS.get(INDEX) else {
        return told(false);
    };
    let mitigations = firmware.mitigations();
    if mitigations.is_needed(function) {
        let [argument, ..] = args.values;
        return Action::Forward { function, argument };
    }
    told(
        mitigations
            .answer(function)
            .is_some_and(|answer| answer >= 0),
    )
}

pub(crate) fn trng_version(_: &Args, firmware: &dyn Firmware) -> Action {
    match firmware.has_random() {
        true => Action::Answer(TRNG_1_0),
        false => told(false),
    }
}

pub(crate) fn trng_features(args: &Args, firmware: &dyn Firmware) -> Action {
    let [function, ..] = args.values;
    let function = function as u32;
    let is_ours = (TRNG_VERSION..=TRNG_RND).contains(&(function & !(1 << 30)));
    told(firmware.has_random() && is_ours && find(function).is_some())
}

pub(crate) fn trng_uuid(_: &Args, firmware: &dyn Firmware) -> Action {
    match firmware.has_random() {
        true => Action::AnswerFour(UUID),
        false => told(false),
    }
}

/// So many random bits in x1 to x3, the most significant first.
pub(crate) fn trng_rnd(args: &Args, firmware: &dyn Firmware) -> Action {
    let [bits, ..] = args.values;
    let max = args.word_bits.saturating_mul(WORDS as u64);
    if !firmware.has_random() {
        return told(false);
    }
    if !(1..=max).contains(&bits) {
        return Action::Answer(INVALID_PARAMETERS);
    }
    let Some(words) = firmware.random() else {
        return Action::Answer(NO_ENTROPY);
    };
    let [high, middle, low] = trng::cut(words, bits, args.word_bits);
    Action::AnswerFour([SUCCESS, high, middle, low])
}

pub(crate) fn pv_time_features(args: &Args, firmware: &dyn Firmware) -> Action {
    let [function, ..] = args.values;
    let is_ours = [PV_TIME_FEATURES_64, PV_TIME_ST_64].contains(&(function as u32));
    told(is_ours && firmware.stolen_time().is_some())
}

pub(crate) fn pv_time_st(_: &Args, firmware: &dyn Firmware) -> Action {
    Action::Answer(firmware.stolen_time().unwrap_or(NOT_SUPPORTED))
}
