// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The `cycle` register where it can be read, else `time`.
//!
//! With instructions counted, QEMU's `cycle` counts just those; `time` ticks
//! every hundred of them. A machine below need not let a guest read `cycle`.
//!
//! Spec: RISC-V Unprivileged, "Zicntr".

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use rt::arch::{timer, trap};

static IS_CYCLE: AtomicBool = AtomicBool::new(false);

/// Finds out which register is used.
pub fn init() {
    IS_CYCLE.store(trap::probe_cycle().is_ok(), Ordering::Relaxed);
}

/// Tells whether `cycle` is used.
pub fn is_cycle() -> bool {
    IS_CYCLE.load(Ordering::Relaxed)
}

/// Returns the frequency of the clock, in ticks for 10^9 instructions.
pub fn frequency_hz() -> u64 {
    if is_cycle() {
        1_000_000_000
    } else {
        timer::frequency_hz()
    }
}

/// Runs assembly between two readings of the clock; returns the ticks.
macro_rules! timed {
    ($code:literal $(, $($operand:tt)*)?) => {{
        let (start, stop): (u64, u64);
        if $crate::arch::clock::is_cycle() {
            core::arch::asm!(
                "csrr {start}, cycle", $code, "csrr {stop}, cycle",
                start = out(reg) start, stop = lateout(reg) stop, $($($operand)*)?
            );
        } else {
            core::arch::asm!(
                "csrr {start}, time", $code, "csrr {stop}, time",
                start = out(reg) start, stop = lateout(reg) stop, $($($operand)*)?
            );
        }
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
    let ticks: u64;
    if is_cycle() {
        // SAFETY: only reads the clock, which can be read.
        unsafe { asm!("csrr {}, cycle", out(reg) ticks) };
    } else {
        // SAFETY: only reads the clock.
        unsafe { asm!("csrr {}, time", out(reg) ticks) };
    }
    ticks
}
