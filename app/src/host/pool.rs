// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Free ranges of guest memory: values only, tested on the host.
//!
//! Everything is a multiple of 2 MiB, so that stage 2 can map it with large
//! leaves. First fit from the bottom, neighbours joined on return.

use alloc::collections::BTreeMap;

/// The unit of guest memory.
pub const CHUNK_BYTES: usize = 2 << 20;

/// The free ranges, by start.
#[derive(Default)]
pub struct Pool {
    free: BTreeMap<usize, usize>,
}

impl Pool {
    /// Makes a pool without memory.
    pub const fn new() -> Self {
        Self {
            free: BTreeMap::new(),
        }
    }

    /// Adds what of a range of memory consists of whole chunks.
    pub fn add(&mut self, start: usize, end: usize) {
        let first = start.checked_next_multiple_of(CHUNK_BYTES);
        let end = end & !CHUNK_BYTES.wrapping_sub(1);
        if let Some(first) = first
            && let Some(size) = end.checked_sub(first)
        {
            self.give(first, size);
        }
    }

    /// Takes a contiguous range, or nothing.
    pub fn take(&mut self, size: usize) -> Option<usize> {
        let size = size.checked_next_multiple_of(CHUNK_BYTES)?;
        let (&start, &found) = self.free.iter().find(|(_, free)| **free >= size)?;
        self.free.remove(&start);
        self.give(start.checked_add(size)?, found.checked_sub(size)?);
        Some(start)
    }

    /// Gives back a range that [`Self::take`] returned.
    pub fn give(&mut self, start: usize, size: usize) {
        let Some(size) = size.checked_next_multiple_of(CHUNK_BYTES) else {
            return;
        };
        if size == 0 {
            return;
        }
        let (mut start, mut size) = (start, size);
        if let Some(after) = self.free.remove(&start.saturating_add(size)) {
            size = size.saturating_add(after);
        }
        let before = self.free.range(..start).next_back();
        if let Some((&at, &len)) = before
            && at.saturating_add(len) == start
        {
            start = at;
            size = size.saturating_add(len);
        }
        self.free.insert(start, size);
    }

    /// Returns how much is free.
    pub fn free_bytes(&self) -> usize {
        self.free.values().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::{CHUNK_BYTES, Pool};

    #[test]
    fn a_range_is_trimmed_to_whole_chunks() {
        let mut pool = Pool::new();
        pool.add(CHUNK_BYTES + 1, 4 * CHUNK_BYTES - 1);
        assert_eq!(pool.free_bytes(), CHUNK_BYTES);
        assert_eq!(pool.take(1), Some(2 * CHUNK_BYTES));
        assert_eq!(pool.take(1), None);
    }

    #[test]
    fn a_range_without_a_whole_chunk_adds_nothing() {
        let mut pool = Pool::new();
        pool.add(CHUNK_BYTES - 1, CHUNK_BYTES + 1);
        pool.add(usize::MAX - 1, usize::MAX);
        pool.add(9, 3);
        assert_eq!(pool.free_bytes(), 0);
    }

    proptest! {
        #[test]
        fn what_is_taken_never_overlaps_and_all_comes_back(
            steps in prop::collection::vec((any::<bool>(), 1_usize..9), 1..200)
        ) {
            let total = 64 * CHUNK_BYTES;
            let mut pool = Pool::new();
            pool.add(0, total);
            let mut held: Vec<(usize, usize)> = Vec::new();
            for (take, n) in steps {
                let size = n * CHUNK_BYTES;
                if take {
                    if let Some(start) = pool.take(size) {
                        prop_assert!(start + size <= total);
                        prop_assert!(held.iter().all(|(s, l)| start >= s + l || start + size <= *s));
                        held.push((start, size));
                    }
                } else if !held.is_empty() {
                    let (start, size) = held.swap_remove(n % held.len());
                    pool.give(start, size);
                }
                let out: usize = held.iter().map(|(_, size)| size).sum();
                prop_assert_eq!(pool.free_bytes() + out, total);
            }
            for (start, size) in held {
                pool.give(start, size);
            }
            prop_assert_eq!(pool.take(total), Some(0));
        }
    }
}
