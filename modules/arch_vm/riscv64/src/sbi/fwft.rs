// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! FWFT: features of the firmware that a hart may switch.
//!
//! A feature is given only if switching it does what the specification says:
//! today the hardware's updating of accessed and dirty bits, where the host can
//! give it to guests. Delegating misaligned accesses is not ours to give, as the
//! host's own firmware sees them first; the others have state that is not switched.
//!
//! Spec: SBI, "Firmware Features Extension (EID #0x46574654 \"FWFT\")".

use sbi_spec::fwft::{
    GET, SET,
    feature_type::{
        DOUBLE_TRAP, LANDING_PAD, MISALIGNED_EXC_DELEG, POINTER_MASKING_PMLEN, PTE_AD_HW_UPDATING,
        SHADOW_STACK,
    },
};

use super::{Call, Hart, Outcome, Ret};

/// The only flag: the feature keeps its value until the hart is reset.
const LOCK: u64 = 1;

/// One hart's features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// The hardware sets accessed and dirty bits; `None` where it cannot.
    pub(crate) table_updates: Option<Feature>,
}

/// A feature that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Feature {
    pub(crate) is_on: bool,
    is_locked: bool,
}

impl Feature {
    /// Returns a feature as a hart has it when it starts: on, as a device tree
    /// that names the extension alone promises it.
    pub(crate) const ON: Self = Self {
        is_on: true,
        is_locked: false,
    };
}

pub(super) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    match call.function as usize {
        SET => set(hart, call),
        GET => get(hart, call),
        _ => Outcome::not_supported(),
    }
}

fn set(hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [id, value, flags, ..] = call.args;
    let feature = match find(&mut hart.state().features, id) {
        Ok(feature) => feature,
        Err(refused) => return Outcome::Return(refused),
    };
    if value > 1 || flags & !LOCK != 0 {
        return Outcome::invalid_param();
    }
    if feature.is_locked {
        return Outcome::Return(Ret::denied_locked());
    }
    *feature = Feature {
        is_on: value == 1,
        is_locked: flags & LOCK != 0,
    };
    hart.apply_features();
    Outcome::success(0)
}

fn get(hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [id, ..] = call.args;
    match find(&mut hart.state().features, id) {
        Ok(feature) => Outcome::success(u64::from(feature.is_on)),
        Err(refused) => Outcome::Return(refused),
    }
}

/// Finds a feature; its id is a value of 32 bits.
fn find(features: &mut Features, id: u64) -> Result<&mut Feature, Ret> {
    match id as u32 as usize {
        PTE_AD_HW_UPDATING => features.table_updates.as_mut().ok_or(Ret::not_supported()),
        MISALIGNED_EXC_DELEG | LANDING_PAD | SHADOW_STACK | DOUBLE_TRAP | POINTER_MASKING_PMLEN => {
            Err(Ret::not_supported())
        }
        // Reserved, or of a platform that is not this one.
        _ => Err(Ret::denied()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        State,
        testing::{FakeHart, call},
    };
    use super::*;
    use sbi_spec::fwft::EID_FWFT;

    const UPDATES: u64 = PTE_AD_HW_UPDATING as u64;

    fn with_updates() -> FakeHart {
        FakeHart {
            state: State::new(Features {
                table_updates: Some(Feature::default()),
            }),
            ..Default::default()
        }
    }

    fn set(hart: &mut FakeHart, args: &[u64]) -> Outcome {
        call(hart, EID_FWFT, SET, args)
    }

    fn get(hart: &mut FakeHart, id: u64) -> Outcome {
        call(hart, EID_FWFT, GET, &[id])
    }

    #[test]
    fn a_feature_is_switched_until_it_is_locked() {
        let mut hart = with_updates();
        assert_eq!(get(&mut hart, UPDATES), Outcome::success(0));
        assert_eq!(set(&mut hart, &[UPDATES, 1, 0]), Outcome::success(0));
        assert_eq!(get(&mut hart, UPDATES), Outcome::success(1));
        assert_eq!(set(&mut hart, &[UPDATES, 0, LOCK]), Outcome::success(0));
        let locked = Outcome::Return(Ret::denied_locked());
        assert_eq!(set(&mut hart, &[UPDATES, 1, 0]), locked);
        assert_eq!(get(&mut hart, UPDATES), Outcome::success(0));
        assert_eq!(hart.features_applied, 2);
    }

    #[test]
    fn values_and_flags_that_do_not_exist_are_refused() {
        let mut hart = with_updates();
        for args in [[UPDATES, 2, 0], [UPDATES, 1, 2], [UPDATES, u64::MAX, 1]] {
            assert_eq!(set(&mut hart, &args), Outcome::invalid_param());
        }
        assert_eq!(hart.features_applied, 0);
    }

    #[test]
    fn what_cannot_be_given_is_not_supported_and_what_does_not_exist_is_denied() {
        let mut hart = FakeHart::default();
        for id in 0..=5 {
            assert_eq!(set(&mut hart, &[id, 1, 0]), Outcome::not_supported());
            assert_eq!(get(&mut hart, id), Outcome::not_supported());
        }
        for id in [6, 0x4000_0000, 0x8000_0000, 0xffff_ffff] {
            let denied = Outcome::Return(Ret::denied());
            assert_eq!(set(&mut hart, &[id, 1, 0]), denied);
            assert_eq!(get(&mut hart, id), denied);
        }
        assert_eq!(call(&mut hart, EID_FWFT, 2, &[]), Outcome::not_supported());
    }
}
