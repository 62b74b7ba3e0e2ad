// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The time that a vCPU was ready to run and did not.
//!
//! Time is stolen from when a vCPU's registers are put away until they are
//! loaded again, unless the vCPU waits of its own will. Architectures tell their
//! guests of it in the form that each has: SBI STA, Arm's paravirtualized time.

/// One vCPU's account of stolen time.
#[derive(Clone, Copy, Debug, Default)]
pub struct StolenTime {
    stolen_ns: u64,
    /// Since when the vCPU does not run although it could.
    taken_at_ns: Option<u64>,
}

impl StolenTime {
    /// Notes that the vCPU, which is ready, runs no more.
    pub fn takes(&mut self, now_ns: u64) {
        self.taken_at_ns = Some(now_ns);
    }

    /// Notes that the vCPU runs again; returns what has been stolen in all if
    /// that has become more.
    pub fn gives_back(&mut self, now_ns: u64) -> Option<u64> {
        let taken_at_ns = self.taken_at_ns.take()?;
        let ns = now_ns.saturating_sub(taken_at_ns);
        self.stolen_ns = self.stolen_ns.wrapping_add(ns);
        Some(self.stolen_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_between_taking_and_giving_back_is_stolen() {
        let mut stolen = StolenTime::default();
        assert_eq!(stolen.gives_back(5), None);
        stolen.takes(1000);
        assert_eq!(stolen.gives_back(1500), Some(500));
        assert_eq!(stolen.gives_back(9999), None);
        stolen.takes(2000);
        assert_eq!(stolen.gives_back(2001), Some(501));
    }

    #[test]
    fn a_clock_that_stands_still_steals_nothing() {
        let mut stolen = StolenTime::default();
        stolen.takes(10);
        assert_eq!(stolen.gives_back(3), Some(0));
    }
}
