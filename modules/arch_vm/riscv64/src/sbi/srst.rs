// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! SRST: switching the machine off or restarting it.
//!
//! Spec: SBI, "System Reset Extension (EID #0x53525354 \"SRST\")".

use axdevice::PowerRequest;
use sbi_spec::srst::{
    RESET_REASON_NO_REASON, RESET_REASON_SYSTEM_FAILURE, RESET_TYPE_COLD_REBOOT,
    RESET_TYPE_SHUTDOWN, RESET_TYPE_WARM_REBOOT, SYSTEM_RESET,
};

use super::{Call, Hart, Outcome};

/// The code with which a machine reports that its system failed.
const SYSTEM_FAILURE: u32 = 1;

pub(super) fn answer(_hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [kind, reason, ..] = call.args;
    if call.function as usize != SYSTEM_RESET {
        return Outcome::not_supported();
    }
    // Both are values of 32 bits.
    match (kind as u32, reason as u32) {
        (RESET_TYPE_SHUTDOWN, RESET_REASON_NO_REASON) => Outcome::system(PowerRequest::Off),
        (RESET_TYPE_SHUTDOWN, RESET_REASON_SYSTEM_FAILURE) => {
            Outcome::system(PowerRequest::Failed(SYSTEM_FAILURE))
        }
        (
            RESET_TYPE_COLD_REBOOT | RESET_TYPE_WARM_REBOOT,
            RESET_REASON_NO_REASON | RESET_REASON_SYSTEM_FAILURE,
        ) => Outcome::system(PowerRequest::Reset),
        _ => Outcome::invalid_param(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, call};
    use super::*;
    use sbi_spec::srst::EID_SRST;

    #[test]
    fn types_and_reasons_mean_what_the_specification_says() {
        let ask = |kind, reason| call(&mut FakeHart::default(), EID_SRST, 0, &[kind, reason]);
        assert_eq!(ask(0, 0), Outcome::system(PowerRequest::Off));
        assert_eq!(ask(0, 1), Outcome::system(PowerRequest::Failed(1)));
        assert_eq!(ask(1, 0), Outcome::system(PowerRequest::Reset));
        assert_eq!(ask(2, 1), Outcome::system(PowerRequest::Reset));
        assert_eq!(ask(3, 0), Outcome::invalid_param());
        assert_eq!(ask(0, 2), Outcome::invalid_param());
        assert_eq!(ask(0xf000_0000, 0), Outcome::invalid_param());
    }
}
