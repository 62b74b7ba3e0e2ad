// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The generic timer and the PL031 RTC.
//!
//! Under E2H the CNTP registers are the EL2 physical timer (CNTHP, PPI 26), so
//! EL1's physical and virtual timers stay free for guests.
//! Spec: Arm Architecture Reference Manual, "Generic Timer".

use aarch64_cpu::registers::{
    CNTFRQ_EL0, CNTP_CTL_EL0, CNTP_CVAL_EL0, CNTPCT_EL0, Readable, Writeable,
};
use axconfig::devices::RTC_PADDR;

use crate::{machine::Machine, mem::linear};

/// Returns the counter.
pub(crate) fn counter() -> u64 {
    CNTPCT_EL0.get()
}

/// Returns the counter's rate.
pub(crate) fn counter_hz(_machine: &Machine) -> u64 {
    CNTFRQ_EL0.get()
}

/// Returns the time of day.
pub(crate) fn unix_time_ns() -> u64 {
    // SAFETY: the data register is mapped as device memory; reading it has no effect.
    let seconds = unsafe { (linear(RTC_PADDR) as *const u32).read_volatile() };
    u64::from(seconds) * 1_000_000_000
}

/// Starts this CPU's timer: the first interrupt comes at once.
pub(crate) fn start() {
    set_deadline(0);
    CNTP_CTL_EL0.write(CNTP_CTL_EL0::ENABLE::SET);
}

/// Asks for an interrupt when the counter reaches `deadline`.
pub(crate) fn set_deadline(deadline: u64) {
    CNTP_CVAL_EL0.set(deadline);
}
