// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The RAM that is still free while a VM's images are placed.
//!
//! Used by `place`. What was taken is never given out again, so that
//! placements cannot overlap whatever an image says.

use alloc::vec::Vec;

use axvm_types::GuestPhysAddr;

use crate::RamRegion;

/// A range of guest physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRange {
    /// Where it starts.
    pub start: GuestPhysAddr,
    /// How long it is.
    pub size_bytes: u64,
}

impl GuestRange {
    /// Makes the range of so many bytes at `start`.
    pub const fn new(start: u64, size_bytes: u64) -> Self {
        Self {
            start: GuestPhysAddr::from_usize(start as usize),
            size_bytes,
        }
    }

    /// Returns its first address as a number.
    pub fn first(&self) -> u64 {
        self.start.as_usize() as u64
    }

    /// Returns the address behind it.
    pub fn end(&self) -> u64 {
        self.first().saturating_add(self.size_bytes)
    }

    /// Tells whether the range has the address.
    pub fn contains(&self, address: u64) -> bool {
        (self.first()..self.end()).contains(&address)
    }
}

impl From<RamRegion> for GuestRange {
    fn from(region: RamRegion) -> Self {
        Self {
            start: region.start,
            size_bytes: region.size_bytes as u64,
        }
    }
}

/// What is free, as pairs of first address and address behind.
pub(super) struct Space {
    free: Vec<(u64, u64)>,
}

impl Space {
    /// Starts with all RAM but what the machine keeps for itself.
    pub(super) fn new(ram: &[RamRegion], reserved: &[GuestRange]) -> Self {
        let ranges = ram.iter().map(|&region| GuestRange::from(region));
        let mut space = Self {
            free: ranges.map(|range| (range.first(), range.end())).collect(),
        };
        for range in reserved {
            space.remove(range.first(), range.end());
        }
        space
    }

    /// Returns how many bytes are free from `start` on, without a gap.
    pub(super) fn room_at(&self, start: u64) -> u64 {
        self.free
            .iter()
            .find(|&&(first, end)| (first..end).contains(&start))
            .map_or(0, |&(_, end)| end.saturating_sub(start))
    }

    /// Returns the size of the largest free piece.
    pub(super) fn largest(&self) -> u64 {
        let sizes = self
            .free
            .iter()
            .map(|&(first, end)| end.saturating_sub(first));
        sizes.max().unwrap_or(0)
    }

    /// Takes exactly this range, if all of it is free.
    pub(super) fn take(&mut self, start: u64, size_bytes: u64) -> Option<GuestRange> {
        if self.room_at(start) < size_bytes {
            return None;
        }
        self.remove(start, start.saturating_add(size_bytes));
        Some(GuestRange::new(start, size_bytes))
    }

    /// Takes the highest range that starts at a multiple of `align` and ends at
    /// or below `limit`; `align` is a power of two.
    pub(super) fn take_high(&mut self, size: u64, align: u64, limit: u64) -> Option<GuestRange> {
        let fit = |&(first, end): &(u64, u64)| {
            let start = end.min(limit).checked_sub(size)? & align.wrapping_neg();
            (start >= first).then_some(start)
        };
        let start = self.free.iter().filter_map(fit).max()?;
        self.take(start, size)
    }

    /// Finds the lowest free start of `size` bytes that is `offset` after a
    /// multiple of `align`, a power of two, and not below `from`.
    pub(super) fn find_low(&self, size: u64, align: u64, offset: u64, from: u64) -> Option<u64> {
        let fit = |&(first, end): &(u64, u64)| {
            let first = first.max(from);
            let up = offset.wrapping_sub(first) & align.wrapping_sub(1);
            let start = first.checked_add(up)?;
            (start.checked_add(size)? <= end).then_some(start)
        };
        self.free.iter().filter_map(fit).min()
    }

    /// Takes whatever of this range is free.
    fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let mut left = Vec::with_capacity(self.free.len().saturating_add(1));
        for &(first, last) in &self.free {
            let pieces = [(first, last.min(start)), (first.max(end), last)];
            left.extend(pieces.into_iter().filter(|&(low, high)| low < high));
        }
        self.free = left;
    }
}
