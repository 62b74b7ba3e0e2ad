// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! TIME: the hart's timer.
//!
//! Spec: SBI, "Timer Extension (EID #0x54494D45 \"TIME\")".

use sbi_spec::time::SET_TIMER;

use super::{Call, Hart, Outcome};

#[inline]
pub(super) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [deadline, ..] = call.args;
    if call.function as usize != SET_TIMER {
        return Outcome::not_supported();
    }
    hart.set_timer(deadline);
    Outcome::success(0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, call};
    use super::*;
    use sbi_spec::time::EID_TIME;

    #[test]
    fn the_deadline_is_taken_as_it_is() {
        let mut hart = FakeHart::default();
        assert_eq!(call(&mut hart, EID_TIME, 0, &[77]), Outcome::success(0));
        assert_eq!(hart.timer, Some(77));
        assert_eq!(
            call(&mut hart, EID_TIME, 1, &[78]),
            Outcome::not_supported()
        );
        assert_eq!(hart.timer, Some(77));
    }
}
