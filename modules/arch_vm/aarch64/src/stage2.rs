// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Stage-2 page tables: VMSAv8-64 with a granule of 4 KiB.
//!
//! Made by `Vm`, filled by axvm's address space, walked by the hardware. The
//! format follows from the address bits that this CPU has: up to 43 bits a walk
//! starts at level 1, with up to sixteen tables side by side as its root, else at
//! level 0. Levels are counted from the leaves here: 0 has pages, 1 blocks of
//! 2 MiB, 2 blocks of 1 GiB. A block is split when a part of it is unmapped or
//! protected. No table is empty but the root. A table changes only while no vCPU
//! that uses it runs, and a VM gets a new VMID when it is started again, so that
//! nothing is invalidated here.
//!
//! Spec: Arm Architecture Reference Manual, "The AArch64 Virtual Memory System
//! Architecture", stage 2 descriptors.

use core::sync::atomic::{AtomicU64, Ordering};

use axaddrspace::{AddrSpaceError, AddrSpaceResult, NestedPageTableOps, PageSize};
use axvm::{AxVCpuHal, Error, GuestPhysAddr, HostPhysAddr, HostVirtAddr, MappingFlags, Result};
use bitflags::bitflags;
use tock_registers::fields::FieldValue;

use crate::regs::VTCR;

const PAGE_SHIFT: usize = 12;
const INDEX_BITS: usize = 9;
const TABLE_ENTRIES: usize = 1 << INDEX_BITS;
/// The highest level that has leaves: 1 GiB.
const BLOCK_LEVEL_MAX: usize = 2;
/// The most address bits of three levels: sixteen tables side by side.
const THREE_LEVEL_BITS: usize = 43;
/// The address bits that guests are given, if the hardware has them.
const WANTED_BITS: usize = 40;

const ADDRESS_MASK: u64 = ((1 << 48) - 1) & !0xfff;
/// What distinguishes memory types: normal write-back, normal uncached, device.
const MEMORY_TYPE: u64 = 0b1111 << 2;
const WRITE_BACK: u64 = 0b1111 << 2;
const UNCACHED: u64 = 0b0101 << 2;
const DEVICE_NGNRE: u64 = 0b0001 << 2;

bitflags! {
    /// The flags of an entry.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct PteFlags: u64 {
        const VALID = 1 << 0;
        /// A table, or at level 0 a page.
        const TABLE_OR_PAGE = 1 << 1;
        /// Part of the memory type.
        const TYPE_BITS = MEMORY_TYPE;
        const READ = 1 << 6;
        const WRITE = 1 << 7;
        const INNER_SHAREABLE = 0b11 << 8;
        const ACCESSED = 1 << 10;
        const EXECUTE_NEVER = 1 << 54;
    }
}

/// Which format of tables the hardware walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    address_bits: usize,
}

impl Format {
    /// Returns the format for a CPU whose ID_AA64MMFR0_EL1.PARange is this.
    pub fn for_pa_range(pa_range: u64) -> Self {
        let address_bits = match pa_range {
            0 => 32,
            1 => 36,
            _ => WANTED_BITS,
        };
        Self { address_bits }
    }

    /// Returns the number of levels.
    pub fn levels(self) -> usize {
        match self.address_bits {
            ..=THREE_LEVEL_BITS => 3,
            _ => 4,
        }
    }

    /// Returns how many frames the root has, side by side.
    fn root_frames(self) -> usize {
        self.root_entries().div_ceil(TABLE_ENTRIES)
    }

    fn root_entries(self) -> usize {
        let below = self.levels().saturating_sub(1).saturating_mul(INDEX_BITS);
        let bits = self
            .address_bits
            .saturating_sub(below)
            .saturating_sub(PAGE_SHIFT);
        1_usize.wrapping_shl(bits as u32)
    }

    /// Returns the first address that is too large.
    pub fn end(self) -> usize {
        1_usize.wrapping_shl(self.address_bits as u32)
    }

    /// Returns VTCR_EL2 for this format.
    pub fn vtcr(self, pa_range: u64) -> FieldValue<u64, VTCR::Register> {
        let start_level = match self.levels() {
            3 => 1,
            _ => 2,
        };
        let unused_bits = 64_u64.saturating_sub(self.address_bits as u64);
        VTCR::RES1::SET
            + VTCR::T0SZ.val(unused_bits)
            + VTCR::SL0.val(start_level)
            + VTCR::IRGN0::WriteBack
            + VTCR::ORGN0::WriteBack
            + VTCR::SH0::Inner
            + VTCR::TG0::Granule4K
            + VTCR::PS.val(pa_range)
    }
}

/// An entry's value.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pte(u64);

impl Pte {
    const EMPTY: Self = Self(0);

    fn table(frame: HostPhysAddr) -> Self {
        let flags = PteFlags::VALID | PteFlags::TABLE_OR_PAGE;
        Self(address_field(frame) | flags.bits())
    }

    fn leaf(to: HostPhysAddr, flags: PteFlags, level: usize) -> Self {
        let mut flags = flags | PteFlags::VALID;
        flags.set(PteFlags::TABLE_OR_PAGE, level == 0);
        Self(address_field(to) | flags.bits())
    }

    fn flags(self) -> PteFlags {
        PteFlags::from_bits_truncate(self.0)
    }

    fn is_empty(self) -> bool {
        !self.flags().contains(PteFlags::VALID)
    }

    /// Tells whether it is a leaf; only leaves have been accessed, as far as
    /// entries say.
    fn is_leaf(self) -> bool {
        self.flags().contains(PteFlags::VALID | PteFlags::ACCESSED)
    }

    fn address(self) -> HostPhysAddr {
        HostPhysAddr::from_usize((self.0 & ADDRESS_MASK) as usize)
    }

    /// Returns the table that this entry points to.
    fn child(self) -> Option<HostPhysAddr> {
        (!self.is_empty() && !self.is_leaf()).then(|| self.address())
    }
}

fn address_field(address: HostPhysAddr) -> u64 {
    address.as_usize() as u64 & ADDRESS_MASK
}

/// Translates permissions; a leaf must let something through.
fn leaf_flags(flags: MappingFlags) -> AddrSpaceResult<PteFlags> {
    let memory_type = if flags.contains(MappingFlags::DEVICE) {
        DEVICE_NGNRE
    } else if flags.contains(MappingFlags::UNCACHED) {
        UNCACHED
    } else {
        WRITE_BACK
    };
    let mut pte = PteFlags::from_bits_retain(memory_type);
    pte |= PteFlags::ACCESSED | PteFlags::INNER_SHAREABLE;
    pte.set(PteFlags::READ, flags.contains(MappingFlags::READ));
    pte.set(PteFlags::WRITE, flags.contains(MappingFlags::WRITE));
    let is_executable = flags.contains(MappingFlags::EXECUTE);
    pte.set(PteFlags::EXECUTE_NEVER, !is_executable);
    if !pte.contains(PteFlags::READ) && (pte.contains(PteFlags::WRITE) || !is_executable) {
        return Err(AddrSpaceError::InvalidMapping);
    }
    Ok(pte)
}

fn mapping_flags(pte: PteFlags) -> MappingFlags {
    let memory_type = pte.bits() & MEMORY_TYPE;
    let mut flags = MappingFlags::empty();
    flags.set(MappingFlags::READ, pte.contains(PteFlags::READ));
    flags.set(MappingFlags::WRITE, pte.contains(PteFlags::WRITE));
    let is_executable = !pte.contains(PteFlags::EXECUTE_NEVER);
    flags.set(MappingFlags::EXECUTE, is_executable);
    flags.set(MappingFlags::DEVICE, memory_type == DEVICE_NGNRE);
    flags.set(MappingFlags::UNCACHED, memory_type == UNCACHED);
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
    format: Format,
}

impl<H: AxVCpuHal> Stage2<H> {
    /// Makes an empty table.
    pub fn new(hal: &H, format: Format) -> Result<Self> {
        let root = hal
            .alloc_frames(format.root_frames())
            .ok_or(Error::NoFrames)?;
        Ok(Self {
            hal: hal.clone(),
            root,
            format,
        })
    }

    /// Returns the table's format.
    pub fn format(&self) -> Format {
        self.format
    }

    fn root_level(&self) -> usize {
        self.format.levels().saturating_sub(1)
    }

    fn entries(&self, level: usize) -> usize {
        match level == self.root_level() {
            true => self.format.root_entries(),
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
        // SAFETY: `table` is a frame (or the root's frames) that this value owns,
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
        self.store(slot, Pte::leaf(piece.to, piece.flags, level));
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
            self.store(slot, Pte::leaf(to, block.pte.flags(), level));
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
        if end > self.format.end() {
            return Err(AddrSpaceError::OutOfRange {
                start: GuestPhysAddr::from_usize(start),
                size,
                space_start: GuestPhysAddr::from_usize(0),
                space_end: GuestPhysAddr::from_usize(self.format.end()),
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
        self.format.levels()
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
            self.store(found.slot, Pte::leaf(paddr, flags, found.slot.level));
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
            let leaf = Pte::leaf(found.pte.address(), flags, found.slot.level);
            self.store(found.slot, leaf);
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
    if at.as_usize() >= table.format.end() {
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
        self.hal.free_frames(self.root, self.format.root_frames());
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
            pa_range in 0_u64..3,
        ) {
            let host = FakeHost::new();
            let format = Format::for_pa_range(pa_range);
            let mut table = Stage2::new(&host, format).unwrap();
            let mut model = Model::new();
            for step in &steps {
                apply(step, &mut table, &mut model);
                compare(&table, &model);
            }
            table.unmap_region(gpa(0), PAGES << PAGE_SHIFT).unwrap();
            prop_assert_eq!(host.frames_taken(), format.root_frames());
            drop(table);
            prop_assert_eq!(host.frames_taken(), 0);
        }

        #[test]
        fn want_of_frames_undoes_a_mapping(budget in 2_usize..6) {
            let host = FakeHost::with_frames(budget);
            let mut table = Stage2::new(&host, Format::for_pa_range(2)).unwrap();
            let size = 2048 << PAGE_SHIFT;
            let mapped = table.map_linear(gpa(0), hpa(0x8_0001), size, RW, true);
            prop_assert!(mapped.is_err());
            compare(&table, &Model::new());
            prop_assert_eq!(host.frames_taken(), 2);
        }
    }

    #[test]
    fn aligned_ram_is_mapped_by_the_largest_leaves() {
        let host = FakeHost::new();
        let mut table = Stage2::new(&host, Format::for_pa_range(2)).unwrap();
        let at = GuestPhysAddr::from_usize(0x8000_0000);
        let to = HostPhysAddr::from_usize(0x1_4000_0000);
        table.map_linear(at, to, 0x4020_1000, RW, true).unwrap();
        let size_at = |offset| table.query(at + offset).unwrap().2;
        assert_eq!(size_at(0), PageSize::Size1G);
        assert_eq!(size_at(0x4000_0000), PageSize::Size2M);
        assert_eq!(size_at(0x4020_0000), PageSize::Size4K);
        assert_eq!(host.frames_taken(), 2 + 2);
    }

    #[test]
    fn addresses_beyond_2_to_39_use_the_second_table_of_the_root() {
        let host = FakeHost::new();
        let mut table = Stage2::new(&host, Format::for_pa_range(5)).unwrap();
        let at = GuestPhysAddr::from_usize(1 << 39);
        table.map(at, hpa(0x4_0000), PageSize::Size1G, RW).unwrap();
        assert!(table.query(GuestPhysAddr::from_usize(0)).is_err());
        assert_eq!(table.query(at).unwrap().0, hpa(0x4_0000));
        let beyond = GuestPhysAddr::from_usize(1 << 40);
        assert!(table.map(beyond, hpa(0), PageSize::Size1G, RW).is_err());
    }

    #[test]
    fn a_root_is_as_large_as_the_address_bits_need() {
        let frames = |pa_range| Format::for_pa_range(pa_range).root_frames();
        assert_eq!([frames(0), frames(1), frames(2), frames(5)], [1, 1, 2, 2]);
        let wide = Format { address_bits: 44 };
        assert_eq!((wide.levels(), wide.root_frames()), (4, 1));
    }

    #[test]
    fn the_hardware_is_told_the_same_format() {
        let vtcr = Format::for_pa_range(2).vtcr(2).value;
        assert_eq!(
            vtcr,
            1 << 31 | 2 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 1 << 6 | 24
        );
    }

    #[test]
    fn memory_types_survive_a_split() {
        let host = FakeHost::new();
        let mut table = Stage2::new(&host, Format::for_pa_range(2)).unwrap();
        let device = RW | MappingFlags::DEVICE;
        let at = GuestPhysAddr::from_usize(0);
        table.map(at, hpa(0), PageSize::Size2M, device).unwrap();
        table.unmap_region(at, 4096).unwrap();
        assert_eq!(table.query(at + 4096).unwrap().1, device);
    }

    #[test]
    fn permissions_that_the_format_reserves_are_refused() {
        let host = FakeHost::new();
        let mut table = Stage2::new(&host, Format::for_pa_range(2)).unwrap();
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
