// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The method: many rounds, each timed by itself, less what timing costs.
//!
//! Called by the files of `arch`. A round returns the ticks between its two
//! readings of the clock. Rounds start at ever different distances from the
//! last tick, so that the mean is right even where a tick is many instructions.

use core::arch::asm;

use crate::arch::clock;
use crate::samples::{Figure, ROUNDS, reduce};
use rt::machine::Failure;

/// Says how long the clock had run when this guest was entered.
pub fn report_entry() {
    let figure = Figure::mean(clock::now(), 1, clock::frequency_hz());
    report("clock-at-entry", figure);
}

/// Measures and reports one round trip.
pub fn round_trip(
    name: &str,
    round: impl FnMut() -> Result<u64, Failure>,
) -> Result<Figure, Failure> {
    let timing = run(|| Ok(clock::empty()))?;
    let figure = run(round)?.without(timing);
    report(name, figure);
    Ok(figure)
}

/// Prints one figure.
pub fn report(name: &str, figure: Figure) {
    rt::console::bare_line(format_args!("BENCH {name} {figure} instructions"));
}

// Never inlined, since the ticks take a quarter of the stack.
#[inline(never)]
fn run(mut round: impl FnMut() -> Result<u64, Failure>) -> Result<Figure, Failure> {
    let mut ticks = [0_u32; ROUNDS];
    for (number, ticks) in ticks.iter_mut().enumerate() {
        dither(number);
        *ticks = u32::try_from(round()?).unwrap_or(u32::MAX);
    }
    Ok(reduce(&mut ticks, clock::frequency_hz()))
}

// Three instructions a time: with clocks of 16 or 100 instructions to the tick,
// all distances from a tick occur.
fn dither(number: usize) {
    for _ in 0..number % 128 {
        // SAFETY: does nothing, but cannot be left out.
        unsafe { asm!("nop", options(nomem, nostack)) };
    }
}
