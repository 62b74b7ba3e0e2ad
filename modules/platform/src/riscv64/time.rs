// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The time CSR, the SBI timer and the goldfish RTC.
//!
//! Spec: RISC-V SBI, "Timer".

use axconfig::devices::RTC_PADDR;

use crate::{machine::Machine, mem::linear};

/// QEMU's, in case the device tree does not say.
const USUAL_HZ: u64 = 10_000_000;

/// Returns the counter.
pub(crate) fn counter() -> u64 {
    riscv::register::time::read64()
}

/// Returns the counter's rate.
pub(crate) fn counter_hz(machine: &Machine) -> u64 {
    machine.timer_hz.unwrap_or(USUAL_HZ)
}

/// Returns the time of day.
pub(crate) fn unix_time_ns() -> u64 {
    // SAFETY: the registers are mapped as device memory; reading this one latches the other.
    let low = unsafe { (linear(RTC_PADDR) as *const u32).read_volatile() };
    // SAFETY: as above.
    let high = unsafe { (linear(RTC_PADDR + 4) as *const u32).read_volatile() };
    u64::from(high) << 32 | u64::from(low)
}

/// Starts this hart's timer: the first interrupt comes at once.
pub(crate) fn start() {
    set_deadline(0);
}

/// Asks for an interrupt when the counter reaches `deadline`.
pub(crate) fn set_deadline(deadline: u64) {
    sbi_rt::set_timer(deadline);
}
