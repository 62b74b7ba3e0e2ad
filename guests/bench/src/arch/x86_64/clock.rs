// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The time-stamp counter: with instructions counted, QEMU's counts just those.
//!
//! Spec: Intel SDM 2, RDTSC.

use core::arch::x86_64::_rdtsc;

/// Has nothing to find out.
pub fn init() {}

/// Returns the frequency of the clock, in ticks for 10^9 instructions.
pub fn frequency_hz() -> u64 {
    1_000_000_000
}

/// Runs assembly between two readings of the clock; returns the ticks, of which
/// the low half is kept in r8. The assembly finds eax and edx destroyed.
macro_rules! timed {
    ($code:literal $(, $($operand:tt)*)?) => {{
        let ticks: u32;
        core::arch::asm!(
            "rdtsc", "mov r8d, eax", $code, "rdtsc", "sub eax, r8d",
            lateout("eax") ticks, lateout("edx") _, out("r8") _, $($($operand)*)?
        );
        u64::from(ticks)
    }};
}

/// Returns what timing nothing takes.
pub fn empty() -> u64 {
    // SAFETY: only reads the clock.
    unsafe { timed!("") }
}

/// Returns the clock's reading.
pub fn now() -> u64 {
    // SAFETY: every 64-bit CPU has the counter.
    unsafe { _rdtsc() }
}
