// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The TSC as the clock and the local APIC's timer for deadlines.
//!
//! Spec: Intel SDM volume 3, "APIC Timer", "Time-Stamp Counter".

use axplat::time::NANOS_PER_SEC;
use spin::Once;

use super::{apic, calibrate, cmos};
use crate::{machine::Machine, ratio::Ratio};

static TSC_HZ: Once<u64> = Once::new();
static TSC_TO_APIC: Once<Ratio> = Once::new();

/// Returns the counter.
pub(crate) fn counter() -> u64 {
    // SAFETY: every CPU with long mode has the instruction.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Measures the counter's rate.
pub(crate) fn counter_hz(_machine: &Machine) -> u64 {
    *TSC_HZ.call_once(calibrate::measure_tsc)
}

/// Returns the time of day.
pub(crate) fn unix_time_ns() -> u64 {
    cmos::unix_time_s() * NANOS_PER_SEC
}

/// Starts this CPU's timer: the first interrupt comes at once.
pub(crate) fn start() {
    set_deadline(0);
}

/// Asks for an interrupt when the counter reaches `deadline`, or earlier if that is far.
pub(crate) fn set_deadline(deadline: u64) {
    let wait = deadline.saturating_sub(counter());
    let ticks = tsc_to_apic().apply(wait).clamp(1, u32::MAX.into());
    apic::start_timer(ticks as u32);
}

fn tsc_to_apic() -> Ratio {
    *TSC_TO_APIC.call_once(|| {
        let tsc_hz = TSC_HZ.get().copied().unwrap_or(NANOS_PER_SEC);
        Ratio::new(calibrate::apic_timer_hz(), tsc_hz.max(1))
    })
}
