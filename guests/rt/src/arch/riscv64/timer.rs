// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The `time` register and the SBI timer.
//!
//! Called by `wait` and the timer step. The frequency comes from the device
//! tree before any CPU but the first runs.
//!
//! Spec: RISC-V SBI, "Timer Extension".

use core::sync::atomic::{AtomicU64, Ordering};

use super::csr_read;
use crate::{cpu, wait};

static FREQUENCY_HZ: AtomicU64 = AtomicU64::new(0);

/// Notes the frequency of the `time` register.
pub fn set_frequency_hz(frequency: u64) {
    FREQUENCY_HZ.store(frequency, Ordering::Release);
}

/// Returns the frequency of the clock.
pub fn frequency_hz() -> u64 {
    FREQUENCY_HZ.load(Ordering::Acquire)
}

/// Returns the clock's reading.
pub fn ticks() -> u64 {
    csr_read!("time") as u64
}

/// Asks for one timer interrupt, `ns` from now.
pub fn arm_ns(ns: u64) {
    set(ticks().saturating_add(wait::ns_to_ticks(ns, frequency_hz())));
}

/// Asks for no timer interrupt.
pub fn disarm() {
    set(u64::MAX);
}

/// Counts a timer interrupt and takes back its request.
pub fn on_interrupt() {
    disarm();
    cpu::current().count_timer();
}

// The TIME extension is mandatory for an SBI 0.2 or later that has harts to
// start; an error shows as a timer interrupt that never comes.
fn set(deadline: u64) {
    let _ = sbi_rt::set_timer(deadline);
}
