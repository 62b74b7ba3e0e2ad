// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The timer of a local APIC: one-shot, periodic, TSC-deadline.
//!
//! The counter runs at 1 GHz, divided as programmed. Nothing counts: what is
//! read is computed from the time, and `expire` is called by the owner when the
//! deadline has come. A periodic timer that is faster than the host wants to be
//! interrupted ticks less often, and shows the right count nevertheless.
//!
//! Spec: Intel SDM vol. 3, "APIC Timer".

use core::num::NonZeroU64;

use super::registers::{LVT, LvtEntry, divide_shift};

/// The rate at which an undivided timer counts.
pub(crate) const TIMER_HZ: u64 = 1_000_000_000;
/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;
/// The least time between two interrupts of a periodic timer.
const LEAST_PERIOD_NS: u64 = 20_000;

/// The time that a local APIC sees.
pub(crate) trait Time {
    /// Returns nanoseconds of the host's clock, which never goes back.
    fn now_ns(&self) -> u64;

    /// Returns the guest's time stamp counter.
    fn tsc(&self) -> u64;

    /// Returns when the counter reaches `tsc` on the host's clock, or a time that has
    /// passed if it has done so already.
    fn ns_at_tsc(&self, tsc: u64) -> u64;
}

/// How the timer is programmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    OneShot,
    Periodic,
    TscDeadline,
}

impl Mode {
    fn of(entry: LvtEntry) -> Self {
        match entry.read_as_enum(LVT::TIMER) {
            Some(LVT::TIMER::Value::Periodic) => Self::Periodic,
            Some(LVT::TIMER::Value::TscDeadline) => Self::TscDeadline,
            _ => Self::OneShot,
        }
    }
}

/// A timer.
#[derive(Clone, Debug)]
pub(super) struct Timer {
    mode: Mode,
    divide: u32,
    initial: u32,
    /// When the initial count was there.
    start_ns: u64,
    /// When the interrupt comes, on the host's clock.
    deadline_ns: u64,
    /// IA32_TSC_DEADLINE.
    tsc_deadline: u64,
}

impl Timer {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::OneShot,
            divide: 0,
            initial: 0,
            start_ns: 0,
            deadline_ns: NEVER,
            tsc_deadline: 0,
        }
    }

    /// Returns when `expire` has something to do, or [`NEVER`].
    pub(super) fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// Takes the mode of the timer's entry; going to or from deadlines stops it.
    pub(super) fn set_mode(&mut self, entry: LvtEntry, time: &impl Time) {
        let mode = Mode::of(entry);
        if mode == self.mode {
            return;
        }
        let count = self.current(time);
        let stops = mode == Mode::TscDeadline || self.mode == Mode::TscDeadline;
        self.mode = mode;
        match stops {
            true => self.stop(),
            false => self.run_from(count, time),
        }
    }

    fn stop(&mut self) {
        self.initial = 0;
        self.tsc_deadline = 0;
        self.deadline_ns = NEVER;
    }

    pub(super) fn divide(&self) -> u32 {
        self.divide
    }

    /// Changes the rate; the count stays as it is.
    pub(super) fn set_divide(&mut self, divide: u32, time: &impl Time) {
        let count = self.current(time);
        self.divide = divide;
        if self.mode != Mode::TscDeadline {
            self.run_from(count, time);
        }
    }

    pub(super) fn initial(&self) -> u32 {
        self.initial
    }

    /// Starts counting down; zero stops.
    pub(super) fn set_initial(&mut self, count: u32, time: &impl Time) {
        if self.mode == Mode::TscDeadline {
            return;
        }
        self.initial = count;
        self.run_from(count, time);
    }

    /// Makes the counter show `count` now and go on.
    fn run_from(&mut self, count: u32, time: &impl Time) {
        if count == 0 {
            self.deadline_ns = NEVER;
            return;
        }
        let gone = self.initial.saturating_sub(count);
        let now_ns = time.now_ns();
        self.start_ns = now_ns.saturating_sub(self.ns_of(gone));
        self.deadline_ns = now_ns.saturating_add(self.ns_of(count));
    }

    fn ns_of(&self, ticks: u32) -> u64 {
        u64::from(ticks).wrapping_shl(divide_shift(self.divide))
    }

    /// Returns the current count.
    pub(super) fn current(&self, time: &impl Time) -> u32 {
        let Some(period) = NonZeroU64::new(self.initial.into()) else {
            return 0;
        };
        if self.deadline_ns == NEVER {
            return 0;
        }
        let passed_ns = time.now_ns().saturating_sub(self.start_ns);
        let passed = passed_ns.wrapping_shr(divide_shift(self.divide));
        let in_period = match self.mode {
            Mode::Periodic => passed % period,
            _ => passed.min(period.get()),
        };
        self.initial.saturating_sub(in_period as u32)
    }

    /// Reads IA32_TSC_DEADLINE.
    pub(super) fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// Writes IA32_TSC_DEADLINE; zero disarms, and other modes ignore it.
    pub(super) fn set_tsc_deadline(&mut self, tsc: u64, time: &impl Time) {
        if self.mode != Mode::TscDeadline {
            return;
        }
        self.tsc_deadline = tsc;
        self.deadline_ns = match tsc {
            0 => NEVER,
            tsc => time.ns_at_tsc(tsc),
        };
    }

    /// Tells whether the deadline has come; an interrupt is then due, and the
    /// timer goes on or stops.
    pub(super) fn expire(&mut self, time: &impl Time) -> bool {
        if self.deadline_ns == NEVER {
            return false;
        }
        match self.mode {
            Mode::TscDeadline => self.expire_tsc(time),
            Mode::OneShot | Mode::Periodic => self.expire_count(time.now_ns()),
        }
    }

    fn expire_tsc(&mut self, time: &impl Time) -> bool {
        let is_due = self.tsc_deadline <= time.tsc();
        if is_due {
            self.stop();
        }
        is_due
    }

    fn expire_count(&mut self, now_ns: u64) -> bool {
        if now_ns < self.deadline_ns {
            return false;
        }
        self.deadline_ns = match self.mode {
            Mode::Periodic => self.next_period_ns(now_ns),
            _ => NEVER,
        };
        true
    }

    /// Returns the end of the present period, or of a later one if it is too near.
    fn next_period_ns(&self, now_ns: u64) -> u64 {
        let Some(period) = NonZeroU64::new(self.ns_of(self.initial)) else {
            return NEVER;
        };
        let least = LEAST_PERIOD_NS.saturating_sub(period.get());
        let passed = now_ns.saturating_add(least).saturating_sub(self.start_ns);
        let ends = (passed / period).saturating_add(1);
        let wait = ends.saturating_mul(period.get());
        self.start_ns
            .saturating_add(wait)
            .min(NEVER.wrapping_sub(1))
    }
}
