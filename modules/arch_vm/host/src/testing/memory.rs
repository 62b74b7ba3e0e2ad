// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Memory for a test's host: a pool of units from one piece of the process.
//!
//! Free memory holds a poison, so that a write after free is noticed when the
//! unit is given out again. Physical addresses are not where the process sees
//! the memory, so that mixing the two up is noticed at once.
#![expect(unsafe_code, reason = "the pool hands out raw memory, as hosts do")]
#![allow(
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "test support: a broken pool must stop the test"
)]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// Between where the process sees memory and its physical address.
pub(super) const PHYS_OFFSET: usize = 1 << 46;
const POISON: u64 = 0xdead_f4ee_dead_f4ee;
/// One word of the poison in each so many bytes.
const POISON_STRIDE_BYTES: usize = 1024;

/// What contiguous units are aligned to at least.
const ALIGN_BYTES: usize = 2 << 20;

/// What a unit was used for before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Fresh,
    Used,
    Free,
}

/// A pool of units of one size.
pub(super) struct Pool {
    /// The process's memory, from which the units are cut.
    whole: *mut u8,
    layout: Layout,
    start: usize,
    unit_bytes: usize,
    units: Vec<Unit>,
    /// What is out: first unit and count.
    out: BTreeMap<usize, usize>,
}

impl Pool {
    pub(super) fn new(unit_bytes: usize, count: usize) -> Self {
        // Not aligned by the process, which would then touch every page.
        let align = unit_bytes.max(ALIGN_BYTES);
        let layout = Layout::from_size_align(unit_bytes * count + align, 16)
            .expect("a pool has a sensible size");
        // SAFETY: the size is not zero.
        let whole = unsafe { alloc_zeroed(layout) };
        assert!(!whole.is_null(), "the process has memory for the pool");
        let start = (whole as usize).next_multiple_of(align);
        Self {
            whole,
            layout,
            start,
            unit_bytes,
            units: vec![Unit::Fresh; count],
            out: BTreeMap::new(),
        }
    }

    /// Takes `count` zeroed units, aligned to `align` units; a text names a wrong.
    pub(super) fn take(&mut self, count: usize, align: usize) -> Option<(usize, Option<String>)> {
        let first = (0..self.units.len())
            .step_by(align.max(1))
            .find(|&first| self.is_free(first, count))?;
        let mut wrong = None;
        for unit in first..first + count {
            let was = std::mem::replace(&mut self.units[unit], Unit::Used);
            if was == Unit::Free && !self.is_poisoned(unit) {
                wrong = Some(format!("unit {unit} was written after it was given back"));
            }
            if was == Unit::Free {
                self.zero(unit);
            }
        }
        self.out.insert(first, count);
        Some((self.start + first * self.unit_bytes + PHYS_OFFSET, wrong))
    }

    /// Zeros what was given out at `start`; `Err` names a wrong.
    pub(super) fn zero_again(&mut self, start: usize, count: usize) -> Result<(), String> {
        let first = self.find_out(start, count)?;
        for unit in first..first + count {
            self.zero(unit);
        }
        Ok(())
    }

    /// Returns the first unit of what was given out at `start`.
    fn find_out(&self, start: usize, count: usize) -> Result<usize, String> {
        let first = start
            .checked_sub(self.start + PHYS_OFFSET)
            .map(|offset| offset / self.unit_bytes)
            .ok_or_else(|| format!("{start:#x} is not from here"))?;
        match self.out.get(&first) == Some(&count) {
            true => Ok(first),
            false => Err(format!("{start:#x} with {count} units is not out")),
        }
    }

    /// Takes back what was given out at `start`; `Err` names a wrong.
    pub(super) fn give_back(&mut self, start: usize, count: usize) -> Result<(), String> {
        let first = self.find_out(start, count)?;
        self.out.remove(&first);
        for unit in first..first + count {
            self.poison(unit);
            self.units[unit] = Unit::Free;
        }
        Ok(())
    }

    fn is_free(&self, first: usize, count: usize) -> bool {
        let units = self.units.get(first..first + count);
        units.is_some_and(|units| units.iter().all(|unit| *unit != Unit::Used))
    }

    fn word(&self, unit: usize, index: usize) -> &AtomicU64 {
        let address = self.start + unit * self.unit_bytes + index * size_of::<u64>();
        // SAFETY: inside the pool's memory, which lives as long as it, and
        // aligned; whoever may use it uses atomics too.
        unsafe { &*(address as *const AtomicU64) }
    }

    fn poison_places(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.unit_bytes / 8).step_by(POISON_STRIDE_BYTES / 8)
    }

    fn poison(&self, unit: usize) {
        for index in self.poison_places() {
            self.word(unit, index).store(POISON, Ordering::Relaxed);
        }
    }

    fn is_poisoned(&self, unit: usize) -> bool {
        self.poison_places()
            .all(|index| self.word(unit, index).load(Ordering::Relaxed) == POISON)
    }

    fn zero(&self, unit: usize) {
        let start = (self.start + unit * self.unit_bytes) as *mut u8;
        // SAFETY: the unit is inside the pool and nobody's: it was just free, or
        // belongs to a VM that does not run.
        unsafe { start.write_bytes(0, self.unit_bytes) };
    }
}

// SAFETY: `whole` is this pool's alone; it is used for giving it back only.
unsafe impl Send for Pool {}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this layout.
        unsafe { dealloc(self.whole, self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_wrongly_is_noticed() {
        let mut pool = Pool::new(4096, 8);
        let (start, wrong) = pool.take(2, 2).unwrap();
        assert_eq!(wrong, None);
        assert!(pool.give_back(start, 1).is_err());
        assert!(pool.give_back(start + 4096, 1).is_err());
        assert!(pool.give_back(start, 2).is_ok());
        assert!(pool.give_back(start, 2).is_err());
    }

    #[test]
    fn a_write_after_the_giving_back_is_noticed_and_wiped() {
        let mut pool = Pool::new(4096, 1);
        let (start, _) = pool.take(1, 1).unwrap();
        pool.give_back(start, 1).unwrap();
        pool.word(0, 0).store(7, Ordering::Relaxed);
        let (_, wrong) = pool.take(1, 1).unwrap();
        assert!(wrong.is_some());
        assert_eq!(pool.word(0, 0).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_empty_pool_gives_nothing() {
        let mut pool = Pool::new(4096, 3);
        let (start, _) = pool.take(2, 2).unwrap();
        assert!(pool.take(2, 2).is_none());
        pool.give_back(start, 2).unwrap();
        assert!(pool.take(2, 2).is_some());
    }
}
