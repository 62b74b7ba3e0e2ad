// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A guest's time-stamp counter and what it is on the host's clock.
//!
//! The host's clock is its own counter in nanoseconds, both from the same start,
//! so that a pair of readings tells the rate. A VM's counter starts at zero with
//! the machine and runs at the host's rate.
//!
//! Spec: AMD64 APM 2, "Time-Stamp Counter"; VMCB TSC_OFFSET.

use axvm::AxVCpuHal;

use crate::regs;

const NS_PER_S: u128 = 1_000_000_000;
const HZ_IF_UNKNOWN: u64 = 1_000_000_000;
const FRACTION_BITS: u32 = 32;
/// Of a product of ticks whose nanoseconds fit into 63 bits.
const LAST_BIT: u32 = FRACTION_BITS + 63;
/// The last time there is, but for the one that means never.
const NEVER: u64 = u64::MAX - 1;

/// Returns the rate of this CPU's counter.
pub(crate) fn host_tsc_hz(hal: &impl AxVCpuHal) -> u64 {
    rate(regs::tsc(), hal.current_time_nanos())
}

fn rate(ticks: u64, ns: u64) -> u64 {
    let hz = u128::from(ticks)
        .saturating_mul(NS_PER_S)
        .checked_div(ns.into())
        .and_then(|hz| u64::try_from(hz).ok());
    hz.filter(|hz| *hz != 0).unwrap_or(HZ_IF_UNKNOWN)
}

/// A VM's counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestTime {
    /// What it is ahead of the host's, modulo 2^64.
    pub(crate) offset: u64,
    pub(crate) tsc_hz: u64,
    /// Nanoseconds for a tick, in units of 2^-32.
    ns_per_tick: u64,
}

impl GuestTime {
    /// Starts a counter now.
    pub(crate) fn start(hal: &impl AxVCpuHal) -> Self {
        Self::new(regs::tsc().wrapping_neg(), host_tsc_hz(hal))
    }

    fn new(offset: u64, tsc_hz: u64) -> Self {
        let ns_per_tick = (NS_PER_S << FRACTION_BITS).checked_div(tsc_hz.into());
        Self {
            offset,
            tsc_hz,
            ns_per_tick: ns_per_tick
                .and_then(|it| u64::try_from(it).ok())
                .unwrap_or(0),
        }
    }

    /// Returns the first time of the host's clock at which a counter that is
    /// `offset` ahead of the host's shows `tsc`.
    #[inline]
    pub(crate) fn host_ns_at(&self, tsc: u64, offset: u64) -> u64 {
        self.ns_of(tsc.wrapping_sub(offset))
    }

    /// Returns when such a counter reaches `tsc`, which it may have done already:
    /// then zero.
    #[inline]
    pub(crate) fn host_ns_when(&self, tsc: u64, offset: u64) -> u64 {
        let host = regs::tsc();
        match tsc.checked_sub(host.wrapping_add(offset)) {
            None => 0,
            Some(ahead) => self.ns_of(host.saturating_add(ahead)),
        }
    }

    #[inline]
    fn ns_of(&self, host_tsc: u64) -> u64 {
        let product = u128::from(host_tsc).wrapping_mul(self.ns_per_tick.into());
        // Half of all nanoseconds that there are: centuries.
        if product >> LAST_BIT != 0 {
            return NEVER;
        }
        let ns = (product >> FRACTION_BITS) as u64;
        ns.wrapping_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_two_clocks_with_one_start() {
        assert_eq!(rate(5_000_000_000, 2_000_000_000), 2_500_000_000);
        assert_eq!(rate(7, 0), HZ_IF_UNKNOWN);
        assert_eq!(rate(0, 7), HZ_IF_UNKNOWN);
    }

    #[test]
    fn a_counters_value_has_its_time_on_the_hosts_clock() {
        let time = GuestTime::new(0, 2_000_000_000);
        assert_eq!(time.host_ns_at(3_000, 1_000), 1_001);
        assert_eq!(time.host_ns_at(3_000, 1_000_u64.wrapping_neg()), 2_001);
        assert_eq!(GuestTime::new(0, 1).host_ns_at(u64::MAX, 0), NEVER);
    }
}
