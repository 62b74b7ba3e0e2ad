// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Stage-2 page tables: Sv39x4, Sv48x4, Sv57x4.
//!
//! Made by `RiscvVm`, filled by axvm's address space, walked by the hardware. A
//! root is four frames and holds 2048 entries; every other table is one frame.
//! Leaves are 1 GiB, 2 MiB or 4 KiB; a block is split when a part of it is
//! unmapped or protected. No table is empty but the root. A table changes only
//! while no vCPU that uses it runs, and a VM gets a new VMID when it is started
//! again, so that no fence is needed here.
//!
//! Spec: RISC-V Privileged, "H" extension, "Two-Stage Address Translation".

use core::sync::atomic::{AtomicU64, Ordering};

use axaddrspace::{AddrSpaceError, AddrSpaceResult, NestedPageTableOps, PageSize};
use axvm::{AxVCpuHal, Error, GuestPhysAddr, HostPhysAddr, HostVirtAddr, MappingFlags, Result};
use bitflags::bitflags;
use tock_registers::fields::FieldValue;

use crate::regs::HGATP;

const PAGE_SHIFT: usize = 12;
const INDEX_BITS: usize = 9;
const TABLE_ENTRIES: usize = 1 << INDEX_BITS;
/// The root has two more index bits than other tables.
const ROOT_ENTRIES: usize = TABLE_ENTRIES << 2;
const ROOT_FRAMES: usize = 4;
/// The highest level that has leaves of a size that is asked for: 1 GiB.
const BLOCK_LEVEL_MAX: usize = 2;

const PPN_SHIFT: usize = 10;
const PPN_MASK: u64 = ((1 << 44) - 1) << PPN_SHIFT;

bitflags! {
    /// The flags of an entry.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct PteFlags: u64 {
        const VALID = 1 << 0;
        const READ = 1 << 1;
        const WRITE = 1 << 2;
        const EXECUTE = 1 << 3;
        /// Always one in stage 2: a guest's accesses count as user accesses.
        const USER = 1 << 4;
        const ACCESSED = 1 << 6;
        const DIRTY = 1 << 7;
        /// For software: the mapping was asked for as device memory.
        const DEVICE = 1 << 8;
        /// For software: the mapping was asked for as uncached.
        const UNCACHED = 1 << 9;
    }
}

/// Which format of tables the hardware walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Three levels, 41 bits.
    Sv39x4,
    /// Four levels, 50 bits.
    Sv48x4,
    /// Five levels, 59 bits.
    Sv57x4,
}

impl Mode {
    /// Returns the number of levels.
    pub fn levels(self) -> usize {
        match self {
            Self::Sv39x4 => 3,
            Self::Sv48x4 => 4,
            Self::Sv57x4 => 5,
        }
    }

    /// Returns the mode with so many levels.
    pub fn from_levels(levels: usize) -> Option<Self> {
        [Self::Sv39x4, Self::Sv48x4, Self::Sv57x4]
            .into_iter()
            .find(|mode| mode.levels() == levels)
    }

    /// Returns the mode's field of hgatp.
    pub(crate) fn field(self) -> FieldValue<u64, HGATP::Register> {
        match self {
            Self::Sv39x4 => HGATP::MODE::Sv39x4,
            Self::Sv48x4 => HGATP::MODE::Sv48x4,
            Self::Sv57x4 => HGATP::MODE::Sv57x4,
        }
    }

    /// Returns the first address that is too large.
    fn end(self) -> usize {
        match self {
            Self::Sv39x4 => 1 << 41,
            Self::Sv48x4 => 1 << 50,
            Self::Sv57x4 => 1 << 59,
        }
    }
}

/// An entry's value.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pte(u64);

impl Pte {
    const EMPTY: Self = Self(0);

    fn table(frame: HostPhysAddr) -> Self {
        Self(ppn_field(frame) | PteFlags::VALID.bits())
    }

    fn leaf(to: HostPhysAddr, flags: PteFlags) -> Self {
        Self(ppn_field(to) | flags.bits())
    }

    fn flags(self) -> PteFlags {
        PteFlags::from_bits_truncate(self.0)
    }

    fn is_empty(self) -> bool {
        !self.flags().contains(PteFlags::VALID)
    }

    fn is_leaf(self) -> bool {
        !self.is_empty() && self.flags().intersects(PteFlags::READ | PteFlags::EXECUTE)
    }

    fn address(self) -> HostPhysAddr {
        let frame = (self.0 & PPN_MASK) >> PPN_SHIFT;
        HostPhysAddr::from_usize((frame << PAGE_SHIFT) as usize)
    }

    /// Returns the table that this entry points to.
    fn child(self) -> Option<HostPhysAddr> {
        (!self.is_empty() && !self.is_leaf()).then(|| self.address())
    }
}

fn ppn_field(address: HostPhysAddr) -> u64 {
    (((address.as_usize() >> PAGE_SHIFT) as u64) << PPN_SHIFT) & PPN_MASK
}

/// Translates permissions; none that stage 2 cannot express are accepted.
fn leaf_flags(flags: MappingFlags) -> AddrSpaceResult<PteFlags> {
    let mut pte = PteFlags::VALID | PteFlags::USER | PteFlags::ACCESSED | PteFlags::DIRTY;
    pte.set(PteFlags::READ, flags.contains(MappingFlags::READ));
    pte.set(PteFlags::WRITE, flags.contains(MappingFlags::WRITE));
    pte.set(PteFlags::EXECUTE, flags.contains(MappingFlags::EXECUTE));
    pte.set(PteFlags::DEVICE, flags.contains(MappingFlags::DEVICE));
    pte.set(PteFlags::UNCACHED, flags.contains(MappingFlags::UNCACHED));
    let is_readable = pte.contains(PteFlags::READ);
    let is_writable = pte.contains(PteFlags::WRITE);
    let is_executable = pte.contains(PteFlags::EXECUTE);
    // Writable only is reserved, and without any right an entry is a table.
    match is_readable || (is_executable && !is_writable) {
        true => Ok(pte),
        false => Err(AddrSpaceError::InvalidMapping),
    }
}

fn mapping_flags(pte: PteFlags) -> MappingFlags {
    let mut flags = MappingFlags::empty();
    flags.set(MappingFlags::READ, pte.contains(PteFlags::READ));
    flags.set(MappingFlags::WRITE, pte.contains(PteFlags::WRITE));
    flags.set(MappingFlags::EXECUTE, pte.contains(PteFlags::EXECUTE));
    flags.set(MappingFlags::DEVICE, pte.contains(PteFlags::DEVICE));
    flags.set(MappingFlags::UNCACHED, pte.contains(PteFlags::UNCACHED));
    flags
}

/// Returns how many bytes an entry of a level covers.
fn span(level: usize) -> usize {
    let shift = level.saturating_mul(INDEX_BITS).saturating_add(PAGE_SHIFT);
    1_usize.wrapping_shl(shift as u32)
}

fn is_aligned(address: usize, level: usize) -> bool {
    address & span(level).wrapping_sub(1) == 0
}

fn page_size(level: usize) -> PageSize {
    match level {
        0 => PageSize::Size4K,
        1 => PageSize::Size2M,
        _ => PageSize::Size1G,
    }
}

fn level_of(size: PageSize) -> AddrSpaceResult<usize> {
    match size {
        PageSize::Size4K => Ok(0),
        PageSize::Size2M => Ok(1),
        PageSize::Size1G => Ok(2),
        PageSize::Size1M => Err(AddrSpaceError::InvalidMapping),
    }
}

/// One entry in one table.
#[derive(Clone, Copy)]
struct Slot {
    table: HostPhysAddr,
    index: usize,
    level: usize,
}

/// Where a walk ended: an empty entry or a leaf.
struct Found {
    slot: Slot,
    pte: Pte,
}

/// A piece of guest-physical space and the memory behind it.
#[derive(Clone, Copy)]
struct Piece {
    at: usize,
    to: HostPhysAddr,
    flags: PteFlags,
}

/// A VM's stage-2 table.
pub struct Stage2<H: AxVCpuHal> {
    hal: H,
    root: HostPhysAddr,
    mode: Mode,
}

impl<H: AxVCpuHal> Stage2<H> {
    /// Makes an empty table.
    pub fn new(hal: &H, mode: Mode) -> Result<Self> {
        let root = hal.alloc_frames(ROOT_FRAMES).ok_or(Error::NoFrames)?;
        Ok(Self {
            hal: hal.clone(),
            root,
            mode,
        })
    }

    /// Returns the table's format.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    fn root_level(&self) -> usize {
        self.mode.levels().saturating_sub(1)
    }

    fn entries(&self, level: usize) -> usize {
        match level == self.root_level() {
            true => ROOT_ENTRIES,
            false => TABLE_ENTRIES,
        }
    }

    fn slot(&self, table: HostPhysAddr, level: usize, at: usize) -> Slot {
        let page = at >> PAGE_SHIFT;
        let above = page.wrapping_shr(level.saturating_mul(INDEX_BITS) as u32);
        let index = above & self.entries(level).wrapping_sub(1);
        Slot {
            table,
            index,
            level,
        }
    }

    fn entry(&self, slot: Slot) -> &AtomicU64 {
        let table = self.hal.phys_to_virt(slot.table).as_usize() as *const AtomicU64;
        // SAFETY: `table` is a frame (four for the root) that this value owns,
        // `index` is below its number of entries, and all access is atomic.
        unsafe { &*table.wrapping_add(slot.index) }
    }

    fn load(&self, slot: Slot) -> Pte {
        Pte(self.entry(slot).load(Ordering::Relaxed))
    }

    fn store(&self, slot: Slot, pte: Pte) {
        self.entry(slot).store(pte.0, Ordering::Release);
    }

    /// Walks down to `level`, or to the leaf or hole above it.
    fn walk(&self, at: usize, level: usize) -> Found {
        let mut slot = self.slot(self.root, self.root_level(), at);
        loop {
            let pte = self.load(slot);
            match pte.child() {
                Some(table) if slot.level > level => {
                    slot = self.slot(table, slot.level.saturating_sub(1), at);
                }
                _ => return Found { slot, pte },
            }
        }
    }

    /// Walks down to `level`, making the tables that are missing.
    fn walk_making(&self, at: usize, level: usize) -> AddrSpaceResult<Slot> {
        loop {
            let Found { slot, pte } = self.walk(at, level);
            if slot.level == level {
                return Ok(slot);
            }
            if !pte.is_empty() {
                return Err(AddrSpaceError::MappingConflict);
            }
            self.store(slot, Pte::table(self.new_table()?));
        }
    }

    fn new_table(&self) -> AddrSpaceResult<HostPhysAddr> {
        self.hal.alloc_frames(1).ok_or(AddrSpaceError::MappingState)
    }

    fn map_one(&self, piece: Piece, level: usize) -> AddrSpaceResult {
        let slot = self
            .walk_making(piece.at, level)
            .inspect_err(|_| self.prune(piece.at))?;
        if !self.load(slot).is_empty() {
            return Err(AddrSpaceError::MappingConflict);
        }
        self.store(slot, Pte::leaf(piece.to, piece.flags));
        Ok(())
    }

    /// Returns the largest level at which the piece can be a leaf: aligned, not
    /// longer than `size`, and without smaller mappings there already.
    fn best_level(&self, piece: Piece, size: usize) -> usize {
        let fits = |level: &usize| {
            let at = piece.at | piece.to.as_usize();
            is_aligned(at, *level)
                && span(*level) <= size
                && self.walk(piece.at, *level).pte.child().is_none()
        };
        (1..=BLOCK_LEVEL_MAX).rev().find(fits).unwrap_or(0)
    }

    /// Gives back the tables on the way to `at` that have become empty.
    fn prune(&self, at: usize) {
        for level in 1..=self.root_level() {
            let Found { slot, pte } = self.walk(at, level);
            let Some(table) = pte.child().filter(|_| slot.level == level) else {
                continue;
            };
            if !self.is_table_empty(table, level.saturating_sub(1)) {
                return;
            }
            self.store(slot, Pte::EMPTY);
            self.hal.free_frames(table, 1);
        }
    }

    fn is_table_empty(&self, table: HostPhysAddr, level: usize) -> bool {
        (0..self.entries(level)).all(|index| {
            let slot = Slot {
                table,
                index,
                level,
            };
            self.load(slot).is_empty()
        })
    }

    /// Replaces a block by a table of the next smaller leaves.
    fn split(&self, block: Found) -> AddrSpaceResult {
        let table = self.new_table()?;
        let level = block.slot.level.saturating_sub(1);
        let mut to = block.pte.address();
        for index in 0..TABLE_ENTRIES {
            let slot = Slot {
                table,
                index,
                level,
            };
            self.store(slot, Pte::leaf(to, block.pte.flags()));
            to = HostPhysAddr::from_usize(to.as_usize().wrapping_add(span(level)));
        }
        self.store(block.slot, Pte::table(table));
        Ok(())
    }

    /// Visits each leaf and each hole of a range, splitting what sticks out.
    fn for_each(
        &self,
        start: usize,
        size: usize,
        mut visit: impl FnMut(Found, usize),
    ) -> AddrSpaceResult {
        let end = self.end_of(start, size)?;
        let mut at = start;
        while at < end {
            let found = self.walk(at, 0);
            let level = found.slot.level;
            let next = (at | span(level).wrapping_sub(1)).wrapping_add(1);
            let sticks_out = !is_aligned(at, level) || next > end;
            if sticks_out && found.pte.is_leaf() {
                self.split(found)?;
                continue;
            }
            visit(found, at);
            at = next;
        }
        Ok(())
    }

    /// Returns the end of a range that lies wholly in guest space, in pages.
    fn end_of(&self, start: usize, size: usize) -> AddrSpaceResult<usize> {
        let end = start
            .checked_add(size)
            .ok_or(AddrSpaceError::AddressOverflow { start, size })?;
        if end > self.mode.end() {
            return Err(AddrSpaceError::OutOfRange {
                start: GuestPhysAddr::from_usize(start),
                size,
                space_start: GuestPhysAddr::from_usize(0),
                space_end: GuestPhysAddr::from_usize(self.mode.end()),
            });
        }
        if !is_aligned(start, 0) || !is_aligned(size, 0) {
            return Err(AddrSpaceError::InvalidMapping);
        }
        Ok(end)
    }

    fn is_all_mapped(&self, start: usize, end: usize) -> bool {
        let mut at = start;
        while at < end {
            let found = self.walk(at, 0);
            if !found.pte.is_leaf() {
                return false;
            }
            at = (at | span(found.slot.level).wrapping_sub(1)).wrapping_add(1);
        }
        true
    }

    fn free_tables(&self, table: HostPhysAddr, level: usize) {
        for index in 0..self.entries(level) {
            let slot = Slot {
                table,
                index,
                level,
            };
            if let Some(child) = self.load(slot).child() {
                self.free_tables(child, level.saturating_sub(1));
                self.hal.free_frames(child, 1);
            }
        }
    }
}

impl<H: AxVCpuHal> NestedPageTableOps for Stage2<H> {
    fn root_paddr(&self) -> HostPhysAddr {
        self.root
    }

    fn levels(&self) -> usize {
        self.mode.levels()
    }

    fn alloc_frame(&self) -> Option<HostPhysAddr> {
        self.hal.alloc_frames(1)
    }

    fn dealloc_frame(&self, paddr: HostPhysAddr) {
        self.hal.free_frames(paddr, 1);
    }

    fn phys_to_virt(&self, paddr: HostPhysAddr) -> HostVirtAddr {
        self.hal.phys_to_virt(paddr)
    }

    fn map(
        &mut self,
        vaddr: GuestPhysAddr,
        paddr: HostPhysAddr,
        size: PageSize,
        flags: MappingFlags,
    ) -> AddrSpaceResult {
        let level = level_of(size)?;
        let piece = Piece {
            at: vaddr.as_usize(),
            to: paddr,
            flags: leaf_flags(flags)?,
        };
        self.end_of(piece.at, size.into())?;
        if !is_aligned(piece.at | paddr.as_usize(), level) {
            return Err(AddrSpaceError::InvalidMapping);
        }
        self.map_one(piece, level)
    }

    fn unmap(
        &mut self,
        vaddr: GuestPhysAddr,
    ) -> AddrSpaceResult<(HostPhysAddr, MappingFlags, PageSize)> {
        let found = leaf_at(self, vaddr)?;
        self.store(found.slot, Pte::EMPTY);
        self.prune(vaddr.as_usize());
        Ok(describe(&found))
    }

    fn map_linear(
        &mut self,
        vaddr: GuestPhysAddr,
        paddr: HostPhysAddr,
        size: usize,
        flags: MappingFlags,
        allow_huge: bool,
    ) -> AddrSpaceResult {
        let start = vaddr.as_usize();
        let flags = leaf_flags(flags)?;
        let end = self.end_of(start, size)?;
        if !is_aligned(paddr.as_usize(), 0) {
            return Err(AddrSpaceError::InvalidMapping);
        }
        let mut piece = Piece {
            at: start,
            to: paddr,
            flags,
        };
        while piece.at < end {
            let level = match allow_huge {
                true => self.best_level(piece, end.saturating_sub(piece.at)),
                false => 0,
            };
            if let Err(error) = self.map_one(piece, level) {
                self.unmap_region(vaddr, piece.at.saturating_sub(start))?;
                return Err(error);
            }
            piece.at = piece.at.saturating_add(span(level));
            let to = piece.to.as_usize().wrapping_add(span(level));
            piece.to = HostPhysAddr::from_usize(to);
        }
        Ok(())
    }

    fn unmap_region(&mut self, start: GuestPhysAddr, size: usize) -> AddrSpaceResult {
        let mut last_table = None;
        self.for_each(start.as_usize(), size, |found, at| {
            if found.pte.is_leaf() {
                self.store(found.slot, Pte::EMPTY);
            }
            match last_table.replace((found.slot.table, at)) {
                Some((table, left)) if table != found.slot.table => self.prune(left),
                _ => {}
            }
        })?;
        if let Some((_, at)) = last_table {
            self.prune(at);
        }
        Ok(())
    }

    fn remap(&mut self, start: GuestPhysAddr, paddr: HostPhysAddr, flags: MappingFlags) -> bool {
        let (Ok(found), Ok(flags)) = (leaf_at(self, start), leaf_flags(flags)) else {
            return false;
        };
        let is_fitting = is_aligned(paddr.as_usize(), found.slot.level);
        if is_fitting {
            self.store(found.slot, Pte::leaf(paddr, flags));
        }
        is_fitting
    }

    fn protect_region(
        &mut self,
        start: GuestPhysAddr,
        size: usize,
        new_flags: MappingFlags,
    ) -> bool {
        let start = start.as_usize();
        let (Ok(end), Ok(flags)) = (self.end_of(start, size), leaf_flags(new_flags)) else {
            return false;
        };
        let protect = |found: Found, _| {
            self.store(found.slot, Pte::leaf(found.pte.address(), flags));
        };
        self.is_all_mapped(start, end) && self.for_each(start, size, protect).is_ok()
    }

    fn query(
        &self,
        vaddr: GuestPhysAddr,
    ) -> AddrSpaceResult<(HostPhysAddr, MappingFlags, PageSize)> {
        let found = leaf_at(self, vaddr)?;
        let (block, flags, size) = describe(&found);
        let offset = vaddr.as_usize() & span(found.slot.level).wrapping_sub(1);
        let address = block.as_usize() | offset;
        Ok((HostPhysAddr::from_usize(address), flags, size))
    }
}

fn leaf_at<H: AxVCpuHal>(table: &Stage2<H>, at: GuestPhysAddr) -> AddrSpaceResult<Found> {
    let unmapped = AddrSpaceError::Unmapped { address: at };
    if at.as_usize() >= table.mode.end() {
        return Err(unmapped);
    }
    let found = table.walk(at.as_usize(), 0);
    match found.pte.is_leaf() {
        true => Ok(found),
        false => Err(unmapped),
    }
}

fn describe(found: &Found) -> (HostPhysAddr, MappingFlags, PageSize) {
    let flags = mapping_flags(found.pte.flags());
    (found.pte.address(), flags, page_size(found.slot.level))
}

impl<H: AxVCpuHal> Drop for Stage2<H> {
    fn drop(&mut self) {
        self.free_tables(self.root, self.root_level());
        self.hal.free_frames(self.root, ROOT_FRAMES);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, vec::Vec};

    use super::*;
    use crate::testing::FakeHost;
    use proptest::prelude::*;

    const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);
    const RO: MappingFlags = MappingFlags::READ;
    /// The pages that the model looks at: around a 2 MiB and a 1 GiB border.
    const FIRST_PAGE: usize = (1 << 18) - 1024;
    const PAGES: usize = 2048;

    #[derive(Clone, Debug)]
    enum Step {
        Map {
            page: usize,
            to: usize,
            pages: usize,
            huge: bool,
        },
        Unmap {
            page: usize,
            pages: usize,
        },
        Protect {
            page: usize,
            pages: usize,
        },
        UnmapOne {
            page: usize,
        },
        Remap {
            page: usize,
            to: usize,
        },
    }

    fn gpa(page: usize) -> GuestPhysAddr {
        GuestPhysAddr::from_usize((FIRST_PAGE + page) << PAGE_SHIFT)
    }

    fn hpa(page: usize) -> HostPhysAddr {
        HostPhysAddr::from_usize(page << PAGE_SHIFT)
    }

    fn range() -> impl Strategy<Value = (usize, usize)> {
        let start = prop_oneof![Just(0), Just(512), Just(1024), Just(1536), 0..PAGES];
        let length = prop_oneof![Just(1), Just(512), Just(1024), 1..PAGES];
        (start, length).prop_map(|(page, pages)| (page, pages.min(PAGES - page)))
    }

    fn step() -> impl Strategy<Value = Step> {
        let to = prop_oneof![
            Just(0x8_0000_usize),
            Just(0xc_0000),
            0x8_0000_usize..0x9_0000
        ];
        prop_oneof![
            3 => (range(), to.clone(), any::<bool>())
                .prop_map(|((page, pages), to, huge)| Step::Map { page, to, pages, huge }),
            2 => range().prop_map(|(page, pages)| Step::Unmap { page, pages }),
            1 => range().prop_map(|(page, pages)| Step::Protect { page, pages }),
            1 => (0..PAGES).prop_map(|page| Step::UnmapOne { page }),
            1 => (0..PAGES, to).prop_map(|(page, to)| Step::Remap { page, to }),
        ]
    }

    type Model = BTreeMap<usize, (usize, MappingFlags)>;

    fn apply(step: &Step, table: &mut Stage2<FakeHost>, model: &mut Model) {
        match *step {
            Step::Map {
                page,
                to,
                pages,
                huge,
            } => {
                let is_free = model.range(page..page + pages).next().is_none();
                let mapped = table.map_linear(gpa(page), hpa(to), pages << PAGE_SHIFT, RW, huge);
                assert_eq!(mapped.is_ok(), is_free);
                if is_free {
                    model.extend((0..pages).map(|i| (page + i, (to + i, RW))));
                }
            }
            Step::Unmap { page, pages } => {
                table.unmap_region(gpa(page), pages << PAGE_SHIFT).unwrap();
                model.retain(|at, _| !(page..page + pages).contains(at));
            }
            Step::Protect { page, pages } => {
                let is_full = model.range(page..page + pages).count() == pages;
                let protected = table.protect_region(gpa(page), pages << PAGE_SHIFT, RO);
                assert_eq!(protected, is_full);
                if is_full {
                    model
                        .range_mut(page..page + pages)
                        .for_each(|(_, to)| to.1 = RO);
                }
            }
            Step::UnmapOne { page } => match table.unmap(gpa(page)) {
                Ok((_, _, size)) => {
                    let pages = usize::from(size) >> PAGE_SHIFT;
                    let first = (FIRST_PAGE + page) / pages * pages - FIRST_PAGE;
                    model.retain(|at, _| !(first..first + pages).contains(at));
                }
                Err(_) => assert!(!model.contains_key(&page)),
            },
            Step::Remap { page, to } => remap(table, model, page, to),
        }
    }

    fn remap(table: &mut Stage2<FakeHost>, model: &mut Model, page: usize, to: usize) {
        let size = table.query(gpa(page)).map(|(_, _, size)| size);
        let done = table.remap(gpa(page), hpa(to), RO);
        match size {
            Ok(size) => {
                let pages = usize::from(size) >> PAGE_SHIFT;
                assert_eq!(done, to.is_multiple_of(pages));
                if done {
                    let first = (FIRST_PAGE + page) / pages * pages - FIRST_PAGE;
                    model.extend((0..pages).map(|i| (first + i, (to + i, RO))));
                }
            }
            Err(_) => assert!(!done),
        }
    }

    fn compare(table: &Stage2<FakeHost>, model: &Model) {
        for page in 0..PAGES {
            let found = table.query(gpa(page)).ok();
            let found = found.map(|(to, flags, _)| (to.as_usize() >> PAGE_SHIFT, flags));
            assert_eq!(found, model.get(&page).copied(), "page {page}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_table_does_what_a_map_of_pages_does(
            steps in prop::collection::vec(step(), 1..12),
            levels in 3_usize..=5,
        ) {
            let host = FakeHost::new();
            let mut table = Stage2::new(&host, Mode::from_levels(levels).unwrap()).unwrap();
            let mut model = Model::new();
            for step in &steps {
                apply(step, &mut table, &mut model);
                compare(&table, &model);
            }
            table.unmap_region(gpa(0), PAGES << PAGE_SHIFT).unwrap();
            prop_assert_eq!(host.frames_taken(), ROOT_FRAMES);
            drop(table);
            prop_assert_eq!(host.frames_taken(), 0);
        }

        #[test]
        fn want_of_frames_undoes_a_mapping(budget in 4_usize..8) {
            let host = FakeHost::with_frames(budget);
            let mut table = Stage2::new(&host, Mode::Sv48x4).unwrap();
            let size = 2048 << PAGE_SHIFT;
            let mapped = table.map_linear(gpa(0), hpa(0x8_0001), size, RW, true);
            prop_assert!(mapped.is_err());
            compare(&table, &Model::new());
            prop_assert_eq!(host.frames_taken(), ROOT_FRAMES);
        }
    }

    #[test]
    fn aligned_ram_is_mapped_by_the_largest_leaves() {
        let host = FakeHost::new();
        let mut table = Stage2::new(&host, Mode::Sv39x4).unwrap();
        let at = GuestPhysAddr::from_usize(0x8000_0000);
        let to = HostPhysAddr::from_usize(0x1_4000_0000);
        table.map_linear(at, to, 0x4020_1000, RW, true).unwrap();
        let size_at = |offset| table.query(at + offset).unwrap().2;
        assert_eq!(size_at(0), PageSize::Size1G);
        assert_eq!(size_at(0x4000_0000), PageSize::Size2M);
        assert_eq!(size_at(0x4020_0000), PageSize::Size4K);
        assert_eq!(host.frames_taken(), ROOT_FRAMES + 2);
    }

    #[test]
    fn addresses_beyond_2_to_39_use_the_upper_part_of_the_root() {
        let host = FakeHost::new();
        let mut table = Stage2::new(&host, Mode::Sv39x4).unwrap();
        let at = GuestPhysAddr::from_usize(1 << 40);
        table.map(at, hpa(0x4_0000), PageSize::Size1G, RW).unwrap();
        assert!(table.query(GuestPhysAddr::from_usize(0)).is_err());
        assert_eq!(table.query(at).unwrap().0, hpa(0x4_0000));
        let beyond = GuestPhysAddr::from_usize(1 << 41);
        assert!(table.map(beyond, hpa(0), PageSize::Size1G, RW).is_err());
    }

    #[test]
    fn permissions_that_the_format_reserves_are_refused() {
        let host = FakeHost::new();
        let mut table = Stage2::new(&host, Mode::Sv39x4).unwrap();
        let refused: Vec<_> = [MappingFlags::empty(), MappingFlags::WRITE]
            .into_iter()
            .map(|flags| table.map(gpa(0), hpa(0), PageSize::Size4K, flags))
            .collect();
        assert!(
            refused
                .iter()
                .all(|r| *r == Err(AddrSpaceError::InvalidMapping))
        );
    }
}
