// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One timer of the HPET: a comparator and what follows of a match.
//!
//! Counts are those of the main counter; a timer in 32-bit mode sees its low
//! half. The comparator matches when the counter next shows its value, wrapping
//! around if it must, and a periodic one then moves on by its period.
//!
//! Spec: Intel IA-PC HPET Specification 1.0a, "Timer N Configuration and
//! Capabilities", "Timer N Comparator Value".

use core::num::NonZeroU64;

use tock_registers::LocalRegisterCopy;

use crate::regs::hpet::{Part, TIMER, TIMER_WRITABLE};

/// The interrupts of QEMU's q35 that a timer may be given: 2, 8 and 16 to 23.
const ROUTES: u64 = 0x00ff_0104;

/// A timer.
#[derive(Clone, Debug)]
pub struct Timer {
    configuration: LocalRegisterCopy<u64, TIMER::Register>,
    comparator: u64,
    period: u64,
}

impl Default for Timer {
    /// Makes a timer after reset.
    fn default() -> Self {
        let can = TIMER::CAN_REPEAT::SET + TIMER::CAN_BE_WIDE::SET + TIMER::ROUTES.val(ROUTES);
        Self {
            configuration: LocalRegisterCopy::new(can.value),
            comparator: u64::MAX,
            period: 0,
        }
    }
}

impl Timer {
    pub fn configuration(&self) -> u64 {
        self.configuration.get()
    }

    pub fn configure(&mut self, part: Part, written: u64) {
        let old = self.configuration.get();
        let new = part.replace(old, written) & TIMER_WRITABLE;
        let routes = LocalRegisterCopy::<u64, TIMER::Register>::new(new);
        let can_be_routed = ROUTES >> routes.read(TIMER::ROUTE) & 1 != 0;
        self.configuration.set(old & !TIMER_WRITABLE | new);
        if !can_be_routed {
            self.configuration.modify(TIMER::ROUTE.val(0));
        }
        self.comparator &= self.mask();
    }

    pub fn is_level(&self) -> bool {
        self.configuration.is_set(TIMER::LEVEL)
    }

    pub fn is_enabled(&self) -> bool {
        self.configuration.is_set(TIMER::ENABLE)
    }

    fn is_periodic(&self) -> bool {
        self.configuration.is_set(TIMER::PERIODIC)
    }

    /// Returns the interrupt that it was given.
    pub fn route(&self) -> u32 {
        self.configuration.read(TIMER::ROUTE) as u32
    }

    fn mask(&self) -> u64 {
        match self.configuration.is_set(TIMER::NARROW) {
            true => u32::MAX.into(),
            false => u64::MAX,
        }
    }

    pub fn comparator(&self) -> u64 {
        self.comparator
    }

    /// Writes the comparator: of a periodic timer that is its period, and its
    /// next value only if it was said so before.
    pub fn compare(&mut self, part: Part, written: u64) {
        let sets = self.configuration.is_set(TIMER::SET_VALUE);
        if self.is_periodic() {
            self.period = part.replace(self.period, written) & self.mask();
        }
        if !self.is_periodic() || sets {
            self.comparator = part.replace(self.comparator, written) & self.mask();
        }
        self.configuration.modify(TIMER::SET_VALUE::CLEAR);
    }

    /// Returns after how many counts behind `count` the next match comes.
    pub fn distance(&self, count: u64) -> Option<u64> {
        match self.comparator.wrapping_sub(count) & self.mask() {
            // A whole round.
            0 => self.mask().checked_add(1),
            ahead => Some(ahead),
        }
    }

    /// Tells whether there was a match behind `before` and up to `now`; moves a
    /// periodic comparator to the first match behind `now`.
    pub fn pass(&mut self, before: u64, now: u64) -> bool {
        let passed = now.wrapping_sub(before);
        let Some(distance) = self.distance(before).filter(|ahead| *ahead <= passed) else {
            return false;
        };
        if let Some(period) = NonZeroU64::new(self.period)
            && self.is_periodic()
        {
            let late = passed.wrapping_sub(distance);
            let steps = (late / period).wrapping_add(1);
            let moved = steps.wrapping_mul(period.get());
            self.comparator = self.comparator.wrapping_add(moved) & self.mask();
        }
        true
    }
}
