// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Fences that one hart asks of others.
//!
//! Each hart has a [`FenceBox`]. A fence is put there and the hart is made to
//! look; it carries out what is there before it enters its guest, so the fence
//! is done before the guest's next instruction. The box is short: what does not
//! fit becomes one fence of everything.
//!
//! Spec: RISC-V SBI, "RFENCE Extension"; RISC-V Privileged, HFENCE.VVMA.

use core::sync::atomic::{AtomicBool, Ordering};

use axdevice::Lock;

/// How many fences wait before they become one of everything.
const WAITING_MAX: usize = 4;
/// From how many pages on all pages are cheaper.
const PAGES_MAX: u64 = 64;
const PAGE_SHIFT: u32 = 12;

/// An ordering of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Of instructions, as FENCE.I.
    Instructions,
    /// Of page tables, as SFENCE.VMA.
    Tables {
        /// For which addresses.
        range: Range,
        /// For which address space.
        asid: Asid,
    },
}

/// Virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Every one.
    All,
    /// From the first byte to the last.
    Bytes {
        /// The first.
        start: u64,
        /// The last.
        last: u64,
    },
}

/// Address spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asid {
    /// Every one.
    Every,
    /// This one.
    One(u64),
}

impl Range {
    /// Returns the pages' addresses, or nothing if a fence of all is cheaper.
    pub fn pages(self) -> Option<impl Iterator<Item = u64>> {
        let Self::Bytes { start, last } = self else {
            return None;
        };
        let (first, last) = (start >> PAGE_SHIFT, last >> PAGE_SHIFT);
        let is_short = last.wrapping_sub(first) < PAGES_MAX;
        is_short.then(|| (first..=last).map(|page| page << PAGE_SHIFT))
    }
}

/// Fences that wait to be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// A fence of instructions is among them.
    pub instructions: bool,
    /// The VM has another VMID.
    pub vmid: bool,
    /// The fences of tables; one of everything if they did not fit.
    tables: [Option<(Range, Asid)>; WAITING_MAX],
}

impl Waiting {
    /// Returns the fences of tables.
    pub fn tables(&self) -> impl Iterator<Item = (Range, Asid)> + '_ {
        self.tables.iter().flatten().copied()
    }

    fn add(&mut self, fence: Fence) {
        let Fence::Tables { range, asid } = fence else {
            self.instructions = true;
            return;
        };
        match self.tables.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some((range, asid)),
            None => {
                self.tables = [None; WAITING_MAX];
                if let Some(slot) = self.tables.first_mut() {
                    *slot = Some((Range::All, Asid::Every));
                }
            }
        }
    }
}

/// One hart's fences, put in by others and taken out by itself.
///
/// The lock is taken with preemption off on both sides.
#[derive(Default)]
pub struct FenceBox {
    is_full: AtomicBool,
    waiting: Lock<Waiting>,
}

impl FenceBox {
    /// Puts a fence in.
    pub fn put(&self, fence: Fence) {
        let mut waiting = self.waiting.lock();
        waiting.add(fence);
        self.is_full.store(true, Ordering::SeqCst);
    }

    /// Asks the hart to take the VM's VMID anew.
    pub fn ask_for_vmid(&self) {
        self.waiting.lock().vmid = true;
        self.is_full.store(true, Ordering::SeqCst);
    }

    /// Takes everything out.
    pub fn take(&self) -> Option<Waiting> {
        if !self.is_full() {
            return None;
        }
        let mut waiting = self.waiting.lock();
        self.is_full.store(false, Ordering::SeqCst);
        Some(core::mem::take(&mut *waiting))
    }

    /// Tells whether something waits; who puts something in asks its hart to look
    /// after that, and whoever waits for it to be taken looks again and again.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn page(number: u64) -> Fence {
        let start = number << PAGE_SHIFT;
        let range = Range::Bytes { start, last: start };
        Fence::Tables {
            range,
            asid: Asid::Every,
        }
    }

    #[test]
    fn what_does_not_fit_becomes_one_fence_of_everything() {
        let fences = FenceBox::default();
        (0..WAITING_MAX as u64).for_each(|number| fences.put(page(number)));
        assert_eq!(fences.take().unwrap().tables().count(), WAITING_MAX);
        (0..=WAITING_MAX as u64).for_each(|number| fences.put(page(number)));
        let all: Vec<_> = fences.take().unwrap().tables().collect();
        assert_eq!(all, [(Range::All, Asid::Every)]);
        assert_eq!(fences.take(), None);
    }

    #[test]
    fn a_fence_of_instructions_is_kept_beside_the_others() {
        let fences = FenceBox::default();
        fences.put(Fence::Instructions);
        fences.put(page(1));
        assert!(fences.is_full());
        let waiting = fences.take().unwrap();
        assert!(waiting.instructions);
        assert_eq!(waiting.tables().count(), 1);
        assert!(!fences.is_full());
    }

    #[test]
    fn a_new_vmid_is_asked_for_beside_the_fences() {
        let fences = FenceBox::default();
        fences.ask_for_vmid();
        assert!(fences.is_full());
        fences.put(page(1));
        let waiting = fences.take().unwrap();
        assert!(waiting.vmid && !waiting.instructions);
        assert_eq!(waiting.tables().count(), 1);
        assert!(fences.take().is_none());
    }

    #[test]
    fn a_range_covers_each_page_it_touches() {
        let range = Range::Bytes {
            start: 0x1fff,
            last: 0x3000,
        };
        let pages: Vec<_> = range.pages().unwrap().collect();
        assert_eq!(pages, [0x1000, 0x2000, 0x3000]);
        assert!(Range::All.pages().is_none());
        let long = Range::Bytes {
            start: 0,
            last: 64 << PAGE_SHIFT,
        };
        assert!(long.pages().is_none());
        let last = Range::Bytes {
            start: u64::MAX,
            last: u64::MAX,
        };
        assert_eq!(last.pages().unwrap().count(), 1);
    }
}
