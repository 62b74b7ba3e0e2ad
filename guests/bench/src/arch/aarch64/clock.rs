// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The virtual counter: there is no cycle counter that every guest may read.
//!
//! It ticks every 16 instructions on most CPU models of QEMU, every one on the
//! newest; `samples` makes up for it.
//!
//! Spec: Arm ARM, CNTVCT_EL0.

use rt::arch::timer;

/// Has nothing to find out.
pub fn init() {}

/// Returns the frequency of the clock, in ticks for 10^9 instructions.
pub fn frequency_hz() -> u64 {
    timer::frequency_hz()
}

/// Runs assembly between two readings of the clock; returns the ticks.
macro_rules! timed {
    ($code:literal $(, $($operand:tt)*)?) => {{
        let (start, stop): (u64, u64);
        core::arch::asm!(
            "isb", "mrs {start}, cntvct_el0", $code, "isb", "mrs {stop}, cntvct_el0",
            start = out(reg) start, stop = lateout(reg) stop, $($($operand)*)?
        );
        stop.wrapping_sub(start)
    }};
}

/// Returns what timing nothing takes.
pub fn empty() -> u64 {
    // SAFETY: only reads the clock.
    unsafe { timed!("") }
}

/// Returns the clock's reading.
pub fn now() -> u64 {
    timer::ticks()
}
