// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Conversion between clock rates without division.
//!
//! Timer interrupts convert ticks to nanoseconds and back on every tick. A
//! [`Ratio`] is a 32.32 fixed-point factor prepared once; applying it is one
//! multiplication. Invariant: the error is below one part in 2^32 of the factor.

/// A factor between two rates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ratio(u64);

impl Ratio {
    /// Makes the factor `to / from`.
    ///
    /// # Panics
    /// When `from` is 0.
    pub const fn new(to: u64, from: u64) -> Self {
        assert!(from != 0, "a clock of 0 Hz");
        Self((((to as u128) << 32) / from as u128) as u64)
    }

    /// Applies the factor.
    pub const fn apply(self, value: u64) -> u64 {
        ((value as u128 * self.0 as u128) >> 32) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANOS: u64 = 1_000_000_000;

    #[test]
    fn exact_ratios_are_exact() {
        assert_eq!(
            Ratio::new(NANOS, 10_000_000).apply(123_456_789),
            12_345_678_900
        );
        assert_eq!(Ratio::new(NANOS, NANOS).apply(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_year_of_ticks_is_converted_to_the_millisecond() {
        let hz = 2_399_999_983;
        let year_s = 365 * 24 * 3600;
        let nanos = Ratio::new(NANOS, hz).apply(hz * year_s);
        assert!(nanos.abs_diff(year_s * NANOS) < 20_000_000, "{nanos}");
    }
}
