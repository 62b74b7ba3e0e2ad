// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The PL031 real-time clock of the `virt` machine.
//!
//! Called by the wall clock step. The data register counts seconds since 1970.
//!
//! Spec: Arm PrimeCell Real Time Clock (PL031) Technical Reference Manual.

const DATA: *const u32 = 0x0901_0000 as *const u32;

/// Reads the clock.
pub fn seconds_since_1970() -> Option<u64> {
    // SAFETY: the machine's clock is here; reading it has no effect.
    Some(u64::from(unsafe { DATA.read_volatile() }))
}
