// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The goldfish real-time clock of the `virt` machine.
//!
//! Called by the wall clock step. Reading the low half latches the high half.
//!
//! Spec: Android emulator, "Goldfish virtual hardware", RTC.

const TIME_LOW: *const u32 = 0x10_1000 as *const u32;
const TIME_HIGH: *const u32 = 0x10_1004 as *const u32;

/// Reads the clock.
pub fn seconds_since_1970() -> Option<u64> {
    // SAFETY: the machine's clock is here; reading it has no effect on memory.
    let low = unsafe { TIME_LOW.read_volatile() };
    // SAFETY: as above.
    let high = unsafe { TIME_HIGH.read_volatile() };
    Some((u64::from(high) << 32 | u64::from(low)) / 1_000_000_000)
}
