// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Time, as ArceOS asks for it.
//!
//! Ticks are the CPU's own counter, unshifted, so that a guest's timer value
//! and ArceOS's are the same number. The wall clock is read once at boot.

use axplat::{
    impl_plat_interface,
    time::{NANOS_PER_SEC, TimeIf},
};
use spin::Once;

use crate::{arch, machine::Machine, ratio::Ratio};

#[derive(Clone, Copy, Default)]
struct Clock {
    to_nanos: Ratio,
    to_ticks: Ratio,
    epoch_offset_ns: u64,
}

static CLOCK: Once<Clock> = Once::new();

/// Learns the counter's rate and the time of day.
pub(crate) fn init(machine: &Machine) {
    let hz = arch::time::counter_hz(machine);
    let to_nanos = Ratio::new(NANOS_PER_SEC, hz);
    let since_reset_ns = to_nanos.apply(arch::time::counter());
    let epoch_offset_ns = arch::time::unix_time_ns().saturating_sub(since_reset_ns);
    CLOCK.call_once(|| Clock {
        to_nanos,
        to_ticks: Ratio::new(hz, NANOS_PER_SEC),
        epoch_offset_ns,
    });
}

fn clock() -> Clock {
    CLOCK.get().copied().unwrap_or_default()
}

struct PlatformTime;

#[impl_plat_interface]
impl TimeIf for PlatformTime {
    fn current_ticks() -> u64 {
        arch::time::counter()
    }

    fn ticks_to_nanos(ticks: u64) -> u64 {
        clock().to_nanos.apply(ticks)
    }

    fn nanos_to_ticks(nanos: u64) -> u64 {
        clock().to_ticks.apply(nanos)
    }

    fn epochoffset_nanos() -> u64 {
        clock().epoch_offset_ns
    }

    fn irq_num() -> usize {
        axconfig::devices::TIMER_IRQ
    }

    fn set_oneshot_timer(deadline_ns: u64) {
        arch::time::set_deadline(Self::nanos_to_ticks(deadline_ns));
    }
}
