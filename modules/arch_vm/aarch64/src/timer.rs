// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A guest's two timers: when they fire, and in which counter.
//!
//! EL1's virtual and physical timers are the guest's own while it is in the
//! CPU; programming them is no exit. Here is what can be computed from their
//! values: the deadline of a halted vCPU on the host's clock.
//!
//! Spec: Arm Architecture Reference Manual, "The Generic Timer in AArch64 state".

use tock_registers::LocalRegisterCopy;

use crate::regs::TIMER;

/// One timer's registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timer {
    /// CNTx_CTL.
    pub(crate) control: u64,
    /// CNTx_CVAL.
    pub(crate) compare: u64,
    /// What the counter is behind the physical one.
    pub(crate) offset: u64,
}

/// The host's counter and clock at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) counter: u64,
    pub(crate) hz: u64,
    pub(crate) ns: u64,
}

const NS_PER_S: u128 = 1_000_000_000;

impl Timer {
    /// Returns when it interrupts on the host's clock, if it does.
    pub(crate) fn deadline_ns(self, now: Now) -> Option<u64> {
        let control = LocalRegisterCopy::<u64, TIMER::Register>::new(self.control);
        if !control.is_set(TIMER::ENABLE) || control.is_set(TIMER::IMASK) {
            return None;
        }
        let own_counter = now.counter.wrapping_sub(self.offset);
        let ticks = self.compare.saturating_sub(own_counter);
        let ns = u128::from(ticks)
            .saturating_mul(NS_PER_S)
            .checked_div(now.hz.into())
            .unwrap_or(0);
        Some(now.ns.saturating_add(u64::try_from(ns).unwrap_or(u64::MAX)))
    }
}

/// Returns the earlier of two deadlines.
pub(crate) fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now {
        counter: 1_000,
        hz: 62_500_000,
        ns: 5_000,
    };

    #[test]
    fn an_armed_timer_fires_after_its_ticks() {
        let timer = Timer {
            control: 1,
            compare: 625,
            offset: 1_000,
        };
        assert_eq!(timer.deadline_ns(NOW), Some(5_000 + 10_000));
        let past = Timer { offset: 0, ..timer };
        assert_eq!(past.deadline_ns(NOW), Some(5_000));
    }

    #[test]
    fn a_timer_that_is_off_or_masked_never_fires() {
        for control in [0, 2, 3] {
            let timer = Timer {
                control,
                ..Timer::default()
            };
            assert_eq!(timer.deadline_ns(NOW), None);
        }
    }

    #[test]
    fn the_farthest_deadline_does_not_wrap() {
        let timer = Timer {
            control: 1,
            compare: u64::MAX,
            offset: 0,
        };
        let slow = Now { hz: 1, ..NOW };
        assert_eq!(timer.deadline_ns(slow), Some(u64::MAX));
        assert_eq!(earlier(None, Some(3)), Some(3));
        assert_eq!(earlier(Some(2), Some(3)), Some(2));
    }
}
