// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Alarms: what is to happen at a time, whatever the threads do meanwhile.
//!
//! An alarm waits at the CPU that set it last, whose timer interrupt calls
//! [`AlarmList::ring_due`]. It enters a CPU's list once and stays there; the
//! lists of other CPUs pass it over. So to set one costs a few instructions,
//! and a write to the timer only if nothing else is due before.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axdevice::{Alarm, AlarmListener};
use kspin::SpinNoIrq;

use super::timer;

/// No time: it is not set.
pub(super) const NEVER: u64 = u64::MAX;
/// At no CPU.
const NOWHERE: usize = usize::MAX;

/// An alarm as its owner has it.
pub(super) struct HostAlarm(Arc<Bell>);

/// An alarm as the lists have it.
pub(super) struct Bell {
    at_ns: AtomicU64,
    /// The CPU whose timer it waits for.
    cpu: AtomicUsize,
    /// The CPUs that have it in their lists, one bit each.
    listed: AtomicU64,
    listener: Arc<dyn AlarmListener>,
}

impl HostAlarm {
    pub(super) fn new(listener: Arc<dyn AlarmListener>) -> Self {
        Self(Arc::new(Bell {
            at_ns: AtomicU64::new(NEVER),
            cpu: AtomicUsize::new(NOWHERE),
            listed: AtomicU64::new(0),
            listener,
        }))
    }
}

impl Alarm for HostAlarm {
    fn ring_by(&self, at_ns: u64) {
        if at_ns < self.0.at_ns.fetch_min(at_ns, Ordering::SeqCst) {
            timer::wait_here(&self.0);
        }
    }
}

impl Drop for HostAlarm {
    fn drop(&mut self) {
        timer::forget(&self.0);
    }
}

impl Bell {
    /// Tells whether it is this CPU's and its time has come; then it has to ring.
    ///
    /// Whoever asks for a time meanwhile either sees the ring coming, or finds
    /// it not set any more.
    fn take_due(&self, cpu: usize, now_ns: u64) -> bool {
        let due = |at_ns| (at_ns <= now_ns).then_some(NEVER);
        self.cpu.load(Ordering::SeqCst) == cpu
            && self
                .at_ns
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, due)
                .is_ok()
    }

    /// Returns when it rings at this CPU.
    fn time_at(&self, cpu: usize) -> u64 {
        match self.cpu.load(Ordering::SeqCst) {
            owner if owner == cpu => self.at_ns.load(Ordering::SeqCst),
            _ => NEVER,
        }
    }
}

/// The alarms that were ever set on one CPU.
pub(super) struct AlarmList(SpinNoIrq<Vec<Arc<Bell>>>);

impl AlarmList {
    pub(super) const fn new() -> Self {
        Self(SpinNoIrq::new(Vec::new()))
    }

    /// Makes an alarm wait at `cpu`, whose list this is, and returns its time.
    pub(super) fn adopt(&self, cpu: usize, bell: &Arc<Bell>) -> u64 {
        bell.cpu.store(cpu, Ordering::SeqCst);
        let bit = 1_u64.wrapping_shl(cpu as u32);
        if bell.listed.load(Ordering::Relaxed) & bit == 0 {
            bell.listed.fetch_or(bit, Ordering::Relaxed);
            self.0.lock().push(bell.clone());
        }
        // It may have been set to an earlier time while it was on its way.
        bell.at_ns.load(Ordering::SeqCst)
    }

    /// Rings what is due at `cpu`, and returns when the next is.
    ///
    /// The list is not locked meanwhile: who hears it may set alarms.
    pub(super) fn ring_due(&self, cpu: usize, now_ns: u64) -> u64 {
        while let Some(bell) = self.take_due(cpu, now_ns) {
            bell.listener.alarm_rings();
        }
        let bells = self.0.lock();
        let times = bells.iter().map(|bell| bell.time_at(cpu));
        times.min().unwrap_or(NEVER)
    }

    fn take_due(&self, cpu: usize, now_ns: u64) -> Option<Arc<Bell>> {
        let bells = self.0.lock();
        bells
            .iter()
            .find(|bell| bell.take_due(cpu, now_ns))
            .cloned()
    }

    /// Takes an alarm off the list.
    pub(super) fn forget(&self, gone: &Arc<Bell>) {
        self.0.lock().retain(|bell| !Arc::ptr_eq(bell, gone));
    }
}
