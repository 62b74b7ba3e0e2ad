// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The arithmetic: from clock ticks of many rounds to one figure.
//!
//! Called by `rounds` and `memory`. Figures are hundredths of an instruction, so
//! that a clock of coarse steps still gives one that is good to the digit.

use core::fmt;

/// How many rounds make one figure.
pub const ROUNDS: usize = 1024;

// An interrupt of the host's own may hit a round. It is no part of the round
// trip, so the slowest rounds are left out.
const LEFT_OUT: usize = ROUNDS / 64;

const NS_PER_S: u128 = 1_000_000_000;

/// Hundredths of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure(pub u64);

impl Figure {
    /// Makes the mean of `count` things that took `ticks` together.
    pub fn mean(ticks: u64, count: u64, frequency_hz: u64) -> Self {
        let divisor = u128::from(frequency_hz.max(1)) * u128::from(count.max(1));
        let hundredths = u128::from(ticks) * 100 * NS_PER_S;
        Self(((hundredths + divisor / 2) / divisor) as u64)
    }

    /// Takes `other` away.
    pub fn without(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Reduces the ticks of each round to the figure of one.
pub fn reduce(ticks: &mut [u32; ROUNDS], frequency_hz: u64) -> Figure {
    ticks.sort_unstable();
    let counted = ticks.iter().take(ROUNDS - LEFT_OUT);
    let sum = counted.fold(0, |sum: u64, ticks| sum + u64::from(*ticks));
    Figure::mean(sum, (ROUNDS - LEFT_OUT) as u64, frequency_hz)
}

#[cfg(test)]
mod tests {
    use super::{Figure, ROUNDS, reduce};

    #[test]
    fn rounds_that_are_all_the_same_give_exactly_that() {
        assert_eq!(reduce(&mut [311; ROUNDS], 1_000_000_000), Figure(31_100));
    }

    #[test]
    fn a_few_disturbed_rounds_do_not_count() {
        let mut ticks = [311; ROUNDS];
        ticks[..16].fill(100_000);
        assert_eq!(reduce(&mut ticks, 1_000_000_000), Figure(31_100));
    }

    #[test]
    fn a_coarse_clock_gives_the_mean_in_instructions() {
        let mut ticks = [0; ROUNDS];
        (0..)
            .zip(&mut ticks)
            .for_each(|(i, ticks)| *ticks = 3 + i % 2);
        let Figure(hundredths) = reduce(&mut ticks, 10_000_000);
        assert!((34_800..=35_000).contains(&hundredths), "{hundredths}");
    }

    #[test]
    fn figures_print_two_digits_after_the_point() {
        assert_eq!(Figure(31_105).to_string(), "311.05");
        assert_eq!(Figure(100).without(Figure(300)).to_string(), "0.00");
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        assert_eq!(Figure::mean(0, 0, 0), Figure(0));
    }
}
