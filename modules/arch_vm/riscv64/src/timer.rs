// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A guest's time, and its timer where the hardware has none.
//!
//! With Sstc a guest's timer is vstimecmp, and costs no exit. Without, the SBI
//! call leaves a deadline in [`SoftTimer`], which the vCPU shows as pending from
//! then on; the host interrupts the guest at the deadline. Pure.
//!
//! Spec: RISC-V Privileged, "Sstc" extension, htimedelta; SBI, "Timer Extension".

use crate::bank::NEVER;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A machine's time: the host's counter, from another beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestTime {
    /// What is added to the host's counter: htimedelta.
    pub(crate) delta: u64,
    /// The counter's rate.
    pub(crate) hz: u64,
}

impl GuestTime {
    /// Makes a time that begins now.
    pub(crate) fn starting_at(host_ticks: u64, hz: u64) -> Self {
        Self {
            delta: host_ticks.wrapping_neg(),
            hz,
        }
    }

    /// Returns the guest's counter.
    pub(crate) fn ticks(&self, host_ticks: u64) -> u64 {
        host_ticks.wrapping_add(self.delta)
    }

    /// Returns the host's time at a deadline of the guest; `None` if it never comes.
    pub(crate) fn host_ns(&self, deadline: u64, host: HostTime) -> Option<u64> {
        let ahead = deadline.saturating_sub(self.ticks(host.ticks));
        let ahead_ns = u128::from(ahead)
            .saturating_mul(NANOS_PER_SECOND)
            .checked_div(u128::from(self.hz))?;
        let ahead_ns = u64::try_from(ahead_ns).ok().filter(|_| deadline != NEVER)?;
        host.ns.checked_add(ahead_ns)
    }
}

/// One moment on both of the host's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostTime {
    /// The counter.
    pub(crate) ticks: u64,
    /// The clock that threads wait by.
    pub(crate) ns: u64,
}

/// A timer that software keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SoftTimer {
    /// In the guest's ticks.
    pub(crate) deadline: u64,
}

impl SoftTimer {
    /// Makes a timer that never fires.
    pub(crate) const fn new() -> Self {
        Self { deadline: NEVER }
    }

    /// Tells whether its interrupt is pending.
    pub(crate) fn is_pending(&self, guest_ticks: u64) -> bool {
        self.deadline <= guest_ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HZ: u64 = 10_000_000;

    #[test]
    fn a_guests_time_begins_at_zero() {
        let time = GuestTime::starting_at(500, HZ);
        assert_eq!(time.ticks(500), 0);
        assert_eq!(time.ticks(700), 200);
    }

    #[test]
    fn a_deadline_is_as_far_for_the_host_as_for_the_guest() {
        let time = GuestTime::starting_at(500, HZ);
        let host = HostTime {
            ticks: 600,
            ns: 1_000_000,
        };
        assert_eq!(time.host_ns(110, host), Some(1_001_000));
        assert_eq!(time.host_ns(50, host), Some(1_000_000));
        assert_eq!(time.host_ns(NEVER, host), None);
    }

    #[test]
    fn a_timer_is_pending_from_its_deadline_on() {
        let timer = SoftTimer { deadline: 10 };
        assert!(!timer.is_pending(9));
        assert!(timer.is_pending(10));
        assert!(!SoftTimer::new().is_pending(u64::MAX - 1));
    }

    proptest! {
        #[test]
        fn no_deadline_overflows(deadline: u64, delta: u64, hz: u64, ticks: u64, ns: u64) {
            let time = GuestTime { delta, hz };
            if let Some(at) = time.host_ns(deadline, HostTime { ticks, ns }) {
                prop_assert!(at >= ns);
            }
        }
    }
}
