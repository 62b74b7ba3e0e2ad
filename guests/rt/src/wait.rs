// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Waiting for something to become true, bounded by the machine's clock.
//!
//! Called by the steps. A wait that runs out is a `Failure`, never a hang: a
//! halted CPU is woken by its own timer at least every `NAP_NS`. Halting is
//! only used once the timer interrupt has been seen to work.

use crate::arch::{irq, timer};
use crate::machine::Failure;

/// The longest that any condition is waited for. Generous, because several
/// guests may share one slow CPU.
pub const PATIENCE_NS: u64 = 30_000_000_000;
const NAP_NS: u64 = 5_000_000;

/// Returns the clock's reading in nanoseconds.
pub fn now_ns() -> u64 {
    let ns = u128::from(timer::ticks()) * 1_000_000_000 / u128::from(timer::frequency_hz().max(1));
    ns as u64
}

/// Returns how many ticks of a clock of `frequency_hz` last at least `ns`.
pub fn ns_to_ticks(ns: u64, frequency_hz: u64) -> u64 {
    (u128::from(ns) * u128::from(frequency_hz)).div_ceil(1_000_000_000) as u64
}

/// Spins until `is_true`, or fails with `failure`.
pub fn spin_until(failure: &'static str, is_true: impl Fn() -> bool) -> Result<(), Failure> {
    let start = now_ns();
    while !is_true() {
        if is_late(start) && !is_true() {
            return Err(Failure(failure));
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// Halts this CPU until `is_true`, or fails with `failure`.
pub fn halt_until(failure: &'static str, is_true: impl Fn() -> bool) -> Result<(), Failure> {
    let start = now_ns();
    while !is_true() {
        if is_late(start) && !is_true() {
            return Err(Failure(failure));
        }
        nap(&is_true);
    }
    timer::disarm();
    Ok(())
}

// Whoever was late may only have been kept from looking, so it looks once more.
fn is_late(start: u64) -> bool {
    now_ns().saturating_sub(start) > PATIENCE_NS
}

// What makes the condition true may be an interrupt between the look and the
// halt. Both happen masked, and `irq::halt` wakes for what is pending then.
fn nap(is_true: &impl Fn() -> bool) {
    irq::mask();
    if !is_true() {
        timer::arm_ns(NAP_NS);
        irq::halt();
    }
    irq::unmask();
}
