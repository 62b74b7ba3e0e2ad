// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Walks of a stage-2 table: finding, making, splitting and freeing tables.
//!
//! Used by `ops`. The only code that dereferences tables: each is a frame (the
//! root: some frames) that the [`Stage2`] owns, reached from its root.
#![expect(unsafe_code, reason = "the one place that dereferences page tables")]

use core::sync::atomic::{AtomicU64, Ordering};

use axaddrspace::{AddrSpaceError, AddrSpaceResult};
use axvm_types::HostPhysAddr;

use super::{
    Entry, PAGE_SHIFT, Stage2, TABLE_ENTRIES, TableFormat, after, is_aligned, plus, root_entries,
    span,
};
use crate::{AxVCpuHal, MappingFlags};

/// One entry in one table.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) table: HostPhysAddr,
    index: usize,
    pub(super) level: usize,
}

/// Where a walk ended: a leaf, a hole, or the level that was asked for.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) slot: Slot,
    pub(super) entry: Entry,
}

/// Some guest-physical memory and what is behind it.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) at: usize,
    pub(super) to: HostPhysAddr,
    pub(super) flags: MappingFlags,
}

impl<H: AxVCpuHal, F: TableFormat> Stage2<H, F> {
    pub(super) fn root_level(&self) -> usize {
        self.format.levels().saturating_sub(1)
    }

    fn entries(&self, level: usize) -> usize {
        match level == self.root_level() {
            true => root_entries(self.format),
            false => TABLE_ENTRIES,
        }
    }

    fn slots(&self, table: HostPhysAddr, level: usize) -> impl Iterator<Item = Slot> + use<H, F> {
        (0..self.entries(level)).map(move |index| Slot {
            table,
            index,
            level,
        })
    }

    fn slot(&self, table: HostPhysAddr, level: usize, at: usize) -> Slot {
        let above = at.wrapping_shr(span(level).trailing_zeros());
        let index = above & self.entries(level).wrapping_sub(1);
        Slot {
            table,
            index,
            level,
        }
    }

    fn word(&self, slot: Slot) -> &AtomicU64 {
        let table = self.hal.phys_to_virt(slot.table).as_usize() as *const AtomicU64;
        // SAFETY: `table` is a frame (or the root's frames) that this value owns,
        // `index` is below its number of entries, and all access is atomic.
        unsafe { &*table.wrapping_add(slot.index) }
    }

    fn load(&self, slot: Slot) -> Entry {
        let value = self.word(slot).load(Ordering::Relaxed);
        self.format.entry(value, slot.level)
    }

    fn store(&self, slot: Slot, value: u64) {
        self.word(slot).store(value, Ordering::Release);
    }

    pub(super) fn clear(&self, slot: Slot) {
        self.store(slot, 0);
    }

    pub(super) fn set_leaf(
        &self,
        slot: Slot,
        to: HostPhysAddr,
        flags: MappingFlags,
    ) -> AddrSpaceResult {
        let leaf = self.format.leaf(to, flags, slot.level);
        self.store(slot, leaf.ok_or(AddrSpaceError::InvalidMapping)?);
        Ok(())
    }

    /// Walks down to `level`, or to the leaf or hole above it.
    pub(super) fn walk(&self, at: usize, level: usize) -> Found {
        let mut slot = self.slot(self.root, self.root_level(), at);
        loop {
            let entry = self.load(slot);
            match entry {
                Entry::Table(table) if slot.level > level => {
                    slot = self.slot(table, slot.level.saturating_sub(1), at);
                }
                _ => return Found { slot, entry },
            }
        }
    }

    /// Walks down to `level`, making the tables that are missing.
    pub(super) fn walk_making(&self, at: usize, level: usize) -> AddrSpaceResult<Found> {
        loop {
            let found = self.walk(at, level);
            if found.slot.level == level {
                return Ok(found);
            }
            if found.entry != Entry::Empty {
                return Err(AddrSpaceError::MappingConflict);
            }
            let table = self.new_table()?;
            self.store(found.slot, self.format.table(table));
        }
    }

    fn new_table(&self) -> AddrSpaceResult<HostPhysAddr> {
        self.hal.alloc_frames(1).ok_or(AddrSpaceError::MappingState)
    }

    pub(super) fn map_one(&self, piece: Piece, level: usize) -> AddrSpaceResult {
        let map = || {
            let found = self.walk_making(piece.at, level)?;
            match found.entry {
                Entry::Empty => self.set_leaf(found.slot, piece.to, piece.flags),
                _ => Err(AddrSpaceError::MappingConflict),
            }
        };
        map().inspect_err(|_| self.prune(piece.at))
    }

    /// Returns the largest level at which the piece can be a leaf: aligned, not
    /// longer than `size`, and without smaller mappings there already.
    pub(super) fn best_level(&self, piece: Piece, size: usize) -> usize {
        let fits = |level: &usize| {
            is_aligned(piece.at | piece.to.as_usize(), *level)
                && span(*level) <= size
                && !matches!(self.walk(piece.at, *level).entry, Entry::Table(_))
        };
        (1..=self.format.largest_leaf())
            .rev()
            .find(fits)
            .unwrap_or(0)
    }

    /// Gives back the tables on the way to `at` that have become empty.
    pub(super) fn prune(&self, at: usize) {
        for level in 1..=self.root_level() {
            let Found { slot, entry } = self.walk(at, level);
            let Entry::Table(table) = entry else {
                continue;
            };
            if !self.is_table_empty(table, level.saturating_sub(1)) {
                return;
            }
            self.clear(slot);
            self.hal.free_frames(table, 1);
        }
    }

    fn is_table_empty(&self, table: HostPhysAddr, level: usize) -> bool {
        self.slots(table, level)
            .all(|slot| self.load(slot) == Entry::Empty)
    }

    /// Replaces a leaf by a table of the next smaller ones.
    fn split(&self, block: Slot, mut to: HostPhysAddr, flags: MappingFlags) -> AddrSpaceResult {
        let table = self.new_table()?;
        let level = block.level.saturating_sub(1);
        for slot in self.slots(table, level) {
            self.set_leaf(slot, to, flags)?;
            to = plus(to, span(level));
        }
        self.store(block, self.format.table(table));
        Ok(())
    }

    /// Visits each leaf and each hole of a range, splitting what sticks out.
    pub(super) fn for_each(
        &self,
        start: usize,
        size: usize,
        mut visit: impl FnMut(Found, usize) -> AddrSpaceResult,
    ) -> AddrSpaceResult {
        let end = self.end_of(start, size)?;
        let mut at = start;
        while at < end {
            let found = self.walk(at, 0);
            let level = found.slot.level;
            let next = after(at, level);
            let sticks_out = !is_aligned(at, level) || next > end;
            match found.entry {
                Entry::Leaf(to, flags) if sticks_out => self.split(found.slot, to, flags)?,
                _ => {
                    visit(found, at)?;
                    at = next;
                }
            }
        }
        Ok(())
    }

    /// Tells whether each page of a range is mapped.
    pub(super) fn is_all_mapped(&self, start: usize, end: usize) -> bool {
        let mut at = start;
        while at < end {
            let found = self.walk(at, 0);
            if found.entry == Entry::Empty {
                return false;
            }
            at = after(at, found.slot.level);
        }
        true
    }

    /// Gives back every table below this one.
    pub(super) fn free_tables(&self, table: HostPhysAddr, level: usize) {
        for slot in self.slots(table, level) {
            if let Entry::Table(child) = self.load(slot) {
                self.free_tables(child, level.saturating_sub(1));
                self.hal.free_frames(child, 1);
            }
        }
    }
}

const _: () = assert!(
    TABLE_ENTRIES * size_of::<u64>() == 1 << PAGE_SHIFT,
    "a table is a frame"
);
