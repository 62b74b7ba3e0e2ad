// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a vCPU did: counters for each exit reason and a ring of the last ones.
//!
//! Written by the vCPU's own thread only, with plain loads and stores (no
//! atomic read-modify-write), and read by anybody at any time: a reader may see
//! an entry that is being replaced, which shows in its number.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use alloc::vec::Vec;

use crate::ExitKind;

/// How many exits the trace remembers.
const TRACE_LEN: usize = 64;

/// One remembered exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEntry {
    /// Its kind.
    pub kind: ExitKind,
    /// Where the guest was.
    pub pc: u64,
    /// What goes with the kind: an address, a call number.
    pub detail: u64,
}

#[derive(Default)]
struct Slot {
    kind: AtomicUsize,
    pc: AtomicU64,
    detail: AtomicU64,
}

/// The counters and the trace of one vCPU.
pub struct VCpuStats {
    counts: [AtomicU64; ExitKind::ALL.len()],
    next: AtomicUsize,
    ring: [Slot; TRACE_LEN],
}

impl Default for VCpuStats {
    fn default() -> Self {
        Self::new()
    }
}

impl VCpuStats {
    /// Makes counters at zero and an empty trace.
    pub fn new() -> Self {
        Self {
            counts: core::array::from_fn(|_| AtomicU64::new(0)),
            next: AtomicUsize::new(0),
            ring: core::array::from_fn(|_| Slot::default()),
        }
    }

    /// Counts an exit; only the vCPU's own thread may.
    #[inline]
    pub fn count(&self, kind: ExitKind) {
        if let Some(counter) = self.counts.get(kind as usize) {
            let seen = counter.load(Ordering::Relaxed);
            counter.store(seen.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Counts an exit and remembers it; only the vCPU's own thread may.
    pub fn trace(&self, entry: TraceEntry) {
        self.count(entry.kind);
        let next = self.next.load(Ordering::Relaxed);
        if let Some(slot) = self.ring.get(next % TRACE_LEN) {
            slot.kind.store(entry.kind as usize, Ordering::Relaxed);
            slot.pc.store(entry.pc, Ordering::Relaxed);
            slot.detail.store(entry.detail, Ordering::Relaxed);
        }
        self.next.store(next.wrapping_add(1), Ordering::Release);
    }

    /// Returns how many exits of this kind there were.
    pub fn exits(&self, kind: ExitKind) -> u64 {
        self.counts
            .get(kind as usize)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Returns the remembered exits, the oldest first.
    pub fn last_exits(&self) -> Vec<TraceEntry> {
        let next = self.next.load(Ordering::Acquire);
        let first = next.saturating_sub(TRACE_LEN);
        (first..next)
            .filter_map(|i| self.ring.get(i % TRACE_LEN))
            .filter_map(Slot::entry)
            .collect()
    }
}

impl Slot {
    fn entry(&self) -> Option<TraceEntry> {
        let kind = *ExitKind::ALL.get(self.kind.load(Ordering::Relaxed))?;
        Some(TraceEntry {
            kind,
            pc: self.pc.load(Ordering::Relaxed),
            detail: self.detail.load(Ordering::Relaxed),
        })
    }
}
