// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The virtual counter and the virtual timer.
//!
//! Called by `wait` and the timer step. The timer's interrupt is a level: it
//! stays until the timer is disarmed.
//!
//! Spec: Arm ARM, "The Generic Timer in AArch64 state".

use super::{sysreg_read, sysreg_write};
use crate::{cpu, wait};

const ENABLE: u64 = 1;

/// Returns the frequency of the clock.
pub fn frequency_hz() -> u64 {
    sysreg_read!("cntfrq_el0")
}

/// Returns the clock's reading.
pub fn ticks() -> u64 {
    // SAFETY: a barrier, so that the counter is not read ahead of time.
    unsafe { core::arch::asm!("isb", options(nostack)) };
    sysreg_read!("cntvct_el0")
}

/// Asks for one timer interrupt, `ns` from now.
pub fn arm_ns(ns: u64) {
    let deadline = ticks().saturating_add(wait::ns_to_ticks(ns, frequency_hz()));
    sysreg_write!("cntv_cval_el0", deadline);
    sysreg_write!("cntv_ctl_el0", ENABLE);
}

/// Asks for no timer interrupt.
pub fn disarm() {
    sysreg_write!("cntv_ctl_el0", 0);
}

/// Counts a timer interrupt and takes back its request.
pub fn on_interrupt() {
    disarm();
    cpu::current().count_timer();
}
