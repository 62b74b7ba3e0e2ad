// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! PSCI and the calls of the SMC Calling Convention, as one table.
//!
//! A guest's HVC or SMC ends here; nothing goes on to the real firmware but the
//! workarounds that it said to need. Each call is a row of [`CALLS`]; what it
//! answers is a function of its arguments and of what [`Firmware`] knows. The
//! calls that are not PSCI's are in `smccc`. Actions that end outside the
//! architecture are carried out by `vcpu`.
//!
//! Spec: Arm PSCI (DEN 0022) 1.1, SMC Calling Convention (DEN 0028) 1.1.

use axdevice::PowerRequest;
use axvm::CpuPower;

use crate::{
    mitigations::{Mitigations, WORKAROUNDS},
    smccc,
};

/// What the firmware of a machine knows.
pub(crate) trait Firmware {
    /// Returns whether the vCPU of an affinity is on, if there is one.
    fn power_of(&self, affinity: u64) -> Option<CpuPower>;
    /// Tells whether all but the caller are off.
    fn others_are_off(&self) -> bool;
    /// Returns what is said about speculation.
    fn mitigations(&self) -> &Mitigations;
    /// Tells whether there are random numbers.
    fn has_random(&self) -> bool;
    /// Returns random words.
    fn random(&self) -> Option<[u64; 3]>;
    /// Returns where the caller reads its stolen time.
    fn stolen_time(&self) -> Option<u64>;
}

/// A call's arguments, cut to 32 bits if it is of that convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) values: [u64; 3],
    pub(crate) word_bits: u64,
}

/// What follows of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// x0 becomes this.
    Answer(u64),
    /// x0 to x3 become these.
    AnswerFour([u64; 4]),
    /// Another vCPU starts.
    CpuOn {
        affinity: u64,
        entry: u64,
        context: u64,
    },
    /// The caller is off.
    CpuOff,
    /// The caller waits for an interrupt and continues behind the call.
    Standby,
    /// The caller waits for an interrupt and continues at `entry`.
    PowerDown { entry: u64, context: u64 },
    /// The machine ends or starts again.
    System(PowerRequest),
    /// A workaround that only the real firmware can do.
    Forward { function: u32, argument: u64 },
    /// A call of AxHive's own.
    Hypercall(u64),
}

/// The outcomes that PSCI defines, as signed numbers in x0.
pub(crate) const SUCCESS: u64 = 0;
pub(crate) const NOT_SUPPORTED: u64 = -1_i64 as u64;
pub(crate) const INVALID_PARAMETERS: u64 = -2_i64 as u64;
pub(crate) const DENIED: u64 = -3_i64 as u64;
pub(crate) const ALREADY_ON: u64 = -4_i64 as u64;
pub(crate) const ON_PENDING: u64 = -5_i64 as u64;
pub(crate) const INVALID_ADDRESS: u64 = -9_i64 as u64;

const PSCI_1_1: u64 = 1 << 16 | 1;
const SMCCC_1_1: u64 = 1 << 16 | 1;
const AFFINITY_ON: u64 = 0;
const AFFINITY_OFF: u64 = 1;
const AFFINITY_PENDING: u64 = 2;
/// There is no trusted OS that would have to migrate.
const NO_MIGRATION: u64 = 2;
const STATE_POWER_DOWN: u64 = 1 << 16;
/// The bits of a power state in its original format.
const STATE_BITS: u64 = 0x0301_ffff;
const RESET2_VENDOR: u64 = 1 << 31;

/// The bit that tells the 64-bit convention in a function's number.
const IS_64_BIT: u32 = 1 << 30;
const HYPERCALLS: u32 = 0xc600_0000;
const HYPERCALL_UID: u32 = 0x8600_ff01;
/// Who we are, to those that ask a hypervisor's UID: "AxHive" and zeros.
const UID: [u64; 4] = [0x6948_7841, 0x0000_6576, 0x0000_0000, 0x0000_0001];

/// Which conventions a call may be made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Convention {
    Only32,
    Only64,
    Both,
}

/// One call.
pub(crate) struct Call {
    /// Its 32-bit number.
    function: u32,
    convention: Convention,
    answer: fn(&Args, &dyn Firmware) -> Action,
}

const fn call(
    function: u32,
    convention: Convention,
    answer: fn(&Args, &dyn Firmware) -> Action,
) -> Call {
    Call {
        function,
        convention,
        answer,
    }
}

const PSCI_VERSION: u32 = 0x8400_0000;
const PSCI_FEATURES: u32 = 0x8400_000a;
const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_FEATURES: u32 = 0x8000_0001;

/// Every call that is answered.
const CALLS: &[Call] = &[
    call(PSCI_VERSION, Convention::Only32, |_, _| {
        Action::Answer(PSCI_1_1)
    }),
    call(0x8400_0001, Convention::Both, suspend),
    call(0x8400_0002, Convention::Only32, |_, _| Action::CpuOff),
    call(0x8400_0003, Convention::Both, cpu_on),
    call(0x8400_0004, Convention::Both, affinity_info),
    call(0x8400_0006, Convention::Only32, |_, _| {
        Action::Answer(NO_MIGRATION)
    }),
    call(0x8400_0008, Convention::Only32, |_, _| {
        Action::System(PowerRequest::Off)
    }),
    call(0x8400_0009, Convention::Only32, |_, _| {
        Action::System(PowerRequest::Reset)
    }),
    call(PSCI_FEATURES, Convention::Only32, psci_features),
    call(0x8400_000e, Convention::Both, system_suspend),
    call(0x8400_0012, Convention::Both, system_reset2),
    call(SMCCC_VERSION, Convention::Only32, |_, _| {
        Action::Answer(SMCCC_1_1)
    }),
    call(SMCCC_FEATURES, Convention::Only32, smccc::features),
    call(WORKAROUNDS[0], Convention::Only32, smccc::workaround::<0>),
    call(WORKAROUNDS[1], Convention::Only32, smccc::workaround::<1>),
    call(WORKAROUNDS[2], Convention::Only32, smccc::workaround::<2>),
    call(smccc::TRNG_VERSION, Convention::Only32, smccc::trng_version),
    call(
        smccc::TRNG_FEATURES,
        Convention::Only32,
        smccc::trng_features,
    ),
    call(smccc::TRNG_UUID, Convention::Only32, smccc::trng_uuid),
    call(smccc::TRNG_RND, Convention::Both, smccc::trng_rnd),
    call(
        smccc::PV_TIME_FEATURES,
        Convention::Only64,
        smccc::pv_time_features,
    ),
    call(smccc::PV_TIME_ST, Convention::Only64, smccc::pv_time_st),
    call(HYPERCALL_UID, Convention::Only32, |_, _| {
        Action::AnswerFour(UID)
    }),
];

/// The calls that always have the same answer, for [`constant`].
const CONSTANTS: [(u32, u64); 2] = [(PSCI_VERSION, PSCI_1_1), (SMCCC_VERSION, SMCCC_1_1)];

/// Returns what a call always answers, if it is such a call; [`answer`] says the
/// same, but takes its time.
#[inline]
pub(crate) fn constant(function: u64) -> Option<u64> {
    CONSTANTS
        .iter()
        .find(|(constant, _)| *constant == function as u32)
        .map(|(_, answer)| *answer)
}

/// Decides what follows of a call with these x0 to x3.
pub(crate) fn answer(registers: [u64; 4], firmware: &dyn Firmware) -> Action {
    let [function, x1, x2, x3] = registers;
    let function = function as u32;
    if function & !0xff == HYPERCALLS {
        return Action::Hypercall(u64::from(function & 0xff));
    }
    let Some(found) = find(function) else {
        return Action::Answer(NOT_SUPPORTED);
    };
    let args = match function & IS_64_BIT {
        0 => Args {
            values: [x1, x2, x3].map(|arg| arg & 0xffff_ffff),
            word_bits: 32,
        },
        _ => Args {
            values: [x1, x2, x3],
            word_bits: 64,
        },
    };
    (found.answer)(&args, firmware)
}

/// Finds the call of a number, which says its convention.
pub(crate) fn find(function: u32) -> Option<&'static Call> {
    let is_64_bit = function & IS_64_BIT != 0;
    let fits = |call: &&Call| match call.convention {
        Convention::Only32 => !is_64_bit,
        Convention::Only64 => is_64_bit,
        Convention::Both => true,
    };
    let number = function & !IS_64_BIT;
    let mut calls = CALLS.iter();
    calls.find(|call| call.function == number && fits(call))
}

fn cpu_on(args: &Args, firmware: &dyn Firmware) -> Action {
    let [affinity, entry, context] = args.values;
    match firmware.power_of(affinity) {
        None => Action::Answer(INVALID_PARAMETERS),
        Some(CpuPower::On) => Action::Answer(ALREADY_ON),
        Some(CpuPower::Starting) => Action::Answer(ON_PENDING),
        Some(CpuPower::Off) => Action::CpuOn {
            affinity,
            entry,
            context,
        },
    }
}

fn affinity_info(args: &Args, firmware: &dyn Firmware) -> Action {
    let [affinity, level, _] = args.values;
    // Since PSCI 1.0 only the lowest level has to be supported.
    if level != 0 {
        return Action::Answer(INVALID_PARAMETERS);
    }
    Action::Answer(match firmware.power_of(affinity) {
        None => INVALID_PARAMETERS,
        Some(CpuPower::On) => AFFINITY_ON,
        Some(CpuPower::Off) => AFFINITY_OFF,
        Some(CpuPower::Starting) => AFFINITY_PENDING,
    })
}

fn suspend(args: &Args, _: &dyn Firmware) -> Action {
    let [state, entry, context] = args.values;
    if state & !STATE_BITS != 0 {
        return Action::Answer(INVALID_PARAMETERS);
    }
    match state & STATE_POWER_DOWN {
        0 => Action::Standby,
        _ => Action::PowerDown { entry, context },
    }
}

fn system_suspend(args: &Args, firmware: &dyn Firmware) -> Action {
    let [entry, context, _] = args.values;
    match firmware.others_are_off() {
        true => Action::PowerDown { entry, context },
        false => Action::Answer(DENIED),
    }
}

fn system_reset2(args: &Args, _: &dyn Firmware) -> Action {
    let [kind, ..] = args.values;
    match kind {
        0 => Action::System(PowerRequest::Reset),
        vendor if vendor & RESET2_VENDOR != 0 => Action::Answer(NOT_SUPPORTED),
        _ => Action::Answer(INVALID_PARAMETERS),
    }
}

fn psci_features(args: &Args, _: &dyn Firmware) -> Action {
    let [function, ..] = args.values;
    let function = function as u32;
    let is_ours = function == SMCCC_VERSION || function & 0xbf00_0000 == 0x8400_0000;
    Action::Answer(match find(function) {
        Some(_) if is_ours => SUCCESS,
        _ => NOT_SUPPORTED,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A machine with vCPU 0 on, 1 off and 2 starting.
    struct Three(Mitigations);

    impl Firmware for Three {
        fn power_of(&self, affinity: u64) -> Option<CpuPower> {
            let powers = [CpuPower::On, CpuPower::Off, CpuPower::Starting];
            powers.get(affinity as usize).copied()
        }

        fn others_are_off(&self) -> bool {
            false
        }

        fn mitigations(&self) -> &Mitigations {
            &self.0
        }

        fn has_random(&self) -> bool {
            true
        }

        fn random(&self) -> Option<[u64; 3]> {
            Some([u64::MAX; 3])
        }

        fn stolen_time(&self) -> Option<u64> {
            Some(0x90a_0040)
        }
    }

    fn ask(function: u64, args: [u64; 3]) -> Action {
        answer(
            [function, args[0], args[1], args[2]],
            &Three(Mitigations::read()),
        )
    }

    #[test]
    fn versions_are_1_1() {
        assert_eq!(ask(0x8400_0000, [0; 3]), Action::Answer(0x1_0001));
        assert_eq!(ask(0x8000_0000, [0; 3]), Action::Answer(0x1_0001));
        // VERSION has no 64-bit form.
        assert_eq!(ask(0xc400_0000, [0; 3]), Action::Answer(NOT_SUPPORTED));
    }

    #[test]
    fn what_is_always_the_same_is_what_the_table_says() {
        for (function, value) in CONSTANTS {
            assert_eq!(constant(function.into()), Some(value));
            assert_eq!(ask(function.into(), [7; 3]), Action::Answer(value));
        }
        assert_eq!(constant(0x8400_0001), None);
    }

    #[test]
    fn the_mandatory_calls_of_psci_1_1_are_features() {
        for function in [
            0x8400_0000_u64,
            0x8400_0001,
            0xc400_0001,
            0x8400_0002,
            0x8400_0003,
            0xc400_0003,
            0x8400_0004,
            0xc400_0004,
            0x8400_0006,
            0x8400_0008,
            0x8400_0009,
            0x8400_000a,
            0x8400_000e,
            0xc400_000e,
            0x8400_0012,
            0xc400_0012,
            0x8000_0000,
        ] {
            let found = ask(0x8400_000a, [function, 0, 0]);
            assert_eq!(found, Action::Answer(SUCCESS), "{function:#x}");
        }
        for function in [0x8400_0005_u64, 0x8400_0007, 0xc400_0008, 0x8600_ff01] {
            let found = ask(0x8400_000a, [function, 0, 0]);
            assert_eq!(found, Action::Answer(NOT_SUPPORTED), "{function:#x}");
        }
    }

    #[test]
    fn cpu_on_says_what_the_target_is_doing() {
        let on = |affinity| ask(0xc400_0003, [affinity, 0x4000_0000, 7]);
        assert_eq!(on(0), Action::Answer(ALREADY_ON));
        assert_eq!(on(2), Action::Answer(ON_PENDING));
        assert_eq!(on(3), Action::Answer(INVALID_PARAMETERS));
        let started = Action::CpuOn {
            affinity: 1,
            entry: 0x4000_0000,
            context: 7,
        };
        assert_eq!(on(1), started);
    }

    #[test]
    fn the_32_bit_convention_ignores_upper_halves() {
        let info = ask(0x8400_0004, [0xdead_0000_0000_0001, 1 << 32, 0]);
        assert_eq!(info, Action::Answer(AFFINITY_OFF));
        let info = ask(0xc400_0004, [0xdead_0000_0000_0001, 0, 0]);
        assert_eq!(info, Action::Answer(INVALID_PARAMETERS));
    }

    #[test]
    fn a_suspend_stands_by_or_powers_down() {
        assert_eq!(ask(0xc400_0001, [0, 1, 2]), Action::Standby);
        let down = Action::PowerDown {
            entry: 1,
            context: 2,
        };
        assert_eq!(ask(0xc400_0001, [1 << 16, 1, 2]), down);
        assert_eq!(
            ask(0xc400_0001, [1 << 30, 1, 2]),
            Action::Answer(INVALID_PARAMETERS)
        );
        assert_eq!(ask(0xc400_000e, [1, 2, 0]), Action::Answer(DENIED));
    }

    #[test]
    fn the_system_ends_and_starts_again() {
        assert_eq!(ask(0x8400_0008, [0; 3]), Action::System(PowerRequest::Off));
        assert_eq!(
            ask(0x8400_0009, [0; 3]),
            Action::System(PowerRequest::Reset)
        );
        assert_eq!(
            ask(0xc400_0012, [0; 3]),
            Action::System(PowerRequest::Reset)
        );
        assert_eq!(
            ask(0xc400_0012, [1, 0, 0]),
            Action::Answer(INVALID_PARAMETERS)
        );
    }

    #[test]
    fn the_architecture_s_calls_are_features_and_those_of_others_are_not() {
        let told = |function: u64| ask(0x8000_0001, [function, 0, 0]);
        for function in [0x8000_0000, 0x8000_0001, 0xc500_0020] {
            assert_eq!(told(function), Action::Answer(SUCCESS), "{function:#x}");
        }
        // A PSCI call, the SoC's name, and the 32-bit form of a 64-bit call.
        for function in [0x8400_0000, 0x8000_0002, 0x8500_0020] {
            assert_eq!(
                told(function),
                Action::Answer(NOT_SUPPORTED),
                "{function:#x}"
            );
        }
        // The tests' CPU has no CSV2, and no firmware.
        for function in WORKAROUNDS {
            assert_eq!(told(function.into()), Action::Answer(NOT_SUPPORTED));
            assert_eq!(ask(function.into(), [0; 3]), Action::Answer(NOT_SUPPORTED));
        }
    }

    #[test]
    fn random_numbers_have_as_many_bits_as_were_asked_for() {
        assert_eq!(ask(0x8400_0050, [0; 3]), Action::Answer(1 << 16));
        assert_eq!(
            ask(0x8400_0051, [0xc400_0053, 0, 0]),
            Action::Answer(SUCCESS)
        );
        assert_eq!(
            ask(0x8400_0051, [0x8400_0054, 0, 0]),
            Action::Answer(NOT_SUPPORTED)
        );
        let all = u64::MAX;
        let wide = Action::AnswerFour([SUCCESS, 0, 3, all]);
        assert_eq!(ask(0xc400_0053, [66, 0, 0]), wide);
        let narrow = Action::AnswerFour([SUCCESS, 0, 3, 0xffff_ffff]);
        assert_eq!(ask(0x8400_0053, [34, 0, 0]), narrow);
        for (function, bits) in [(0xc400_0053, 0), (0xc400_0053, 193), (0x8400_0053, 97)] {
            let refused = ask(function, [bits, 0, 0]);
            assert_eq!(refused, Action::Answer(INVALID_PARAMETERS));
        }
    }

    #[test]
    fn stolen_time_is_where_the_caller_reads_it() {
        assert_eq!(
            ask(0xc500_0020, [0xc500_0021, 0, 0]),
            Action::Answer(SUCCESS)
        );
        assert_eq!(
            ask(0xc500_0020, [0xc500_0022, 0, 0]),
            Action::Answer(NOT_SUPPORTED)
        );
        assert_eq!(ask(0xc500_0021, [0; 3]), Action::Answer(0x90a_0040));
        assert_eq!(ask(0x8500_0021, [0; 3]), Action::Answer(NOT_SUPPORTED));
    }

    proptest! {
        #[test]
        fn every_call_has_an_answer(registers: [u64; 4]) {
            answer(registers, &Three(Mitigations::read()));
        }
    }
}
