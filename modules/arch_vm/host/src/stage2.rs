// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Stage 2: three levels of 512 entries, leaves of 4 KiB, 2 MiB and 1 GiB.
//!
//! Owned by axvm's address space; walked by each vCPU from the root's address,
//! as hardware does. Every table is one frame of the host, so that running out
//! of memory can hit each of them, and all are given back on drop.
//!
//! ```text
//! entry   63..12 host address   1 leaf   2 read   3 write   4 execute   0 valid
//! ```

use alloc::collections::BTreeMap;

use axaddrspace::{AddrSpaceError, AddrSpaceResult, NestedPageTableOps, PageSize};
use axvm::{AxVCpuHal, Error, GuestPhysAddr, HostPhysAddr, HostVirtAddr, MappingFlags, Result};

use crate::phys::{FRAME_BYTES, FRAME_WORDS, Frame, read_word};

/// How many levels there are.
pub(crate) const LEVELS: usize = 3;
/// The bits of an address below the tables.
const PAGE_BITS: usize = 12;
/// The bits of an address that one table decodes.
const TABLE_BITS: usize = 9;

const VALID: u64 = 1 << 0;
const LEAF: u64 = 1 << 1;
const READ: u64 = 1 << 2;
const WRITE: u64 = 1 << 3;
const EXECUTE: u64 = 1 << 4;
const ADDRESS: u64 = !(FRAME_BYTES as u64 - 1);
const PERMISSIONS: [(u64, MappingFlags); 3] = [
    (READ, MappingFlags::READ),
    (WRITE, MappingFlags::WRITE),
    (EXECUTE, MappingFlags::EXECUTE),
];

/// One entry of a table.
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    const EMPTY: Self = Self(0);

    fn table(frame: HostPhysAddr) -> Self {
        Self(frame.as_usize() as u64 | VALID)
    }

    fn leaf(to: HostPhysAddr, flags: MappingFlags) -> Self {
        let granted = PERMISSIONS
            .iter()
            .filter(|(_, flag)| flags.contains(*flag))
            .fold(0, |bits, (bit, _)| bits | bit);
        Self(to.as_usize() as u64 & ADDRESS | granted | LEAF | VALID)
    }

    fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    fn is_leaf(self) -> bool {
        self.0 & LEAF != 0
    }

    fn address(self) -> HostPhysAddr {
        HostPhysAddr::from_usize((self.0 & ADDRESS) as usize)
    }

    fn flags(self) -> MappingFlags {
        PERMISSIONS
            .iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .fold(MappingFlags::empty(), |flags, (_, flag)| flags | *flag)
    }
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    pub(crate) host: HostPhysAddr,
    pub(crate) flags: MappingFlags,
    level: usize,
}

/// Returns the bytes that an entry of `level` spans; level 0 holds pages.
fn span(level: usize) -> usize {
    let bits = PAGE_BITS.saturating_add(TABLE_BITS.saturating_mul(level));
    1usize.unbounded_shl(bits as u32)
}

/// Returns the bits of an address below an entry of `level`.
fn offset_mask(level: usize) -> usize {
    span(level).wrapping_sub(1)
}

fn index(address: GuestPhysAddr, level: usize) -> usize {
    let shift = span(level).trailing_zeros();
    address.as_usize().unbounded_shr(shift) % FRAME_WORDS
}

/// Finds what `address` is mapped to, from the root of a table that lives.
pub(crate) fn walk<H: AxVCpuHal>(
    hal: &H,
    root: HostPhysAddr,
    address: GuestPhysAddr,
) -> Option<Translation> {
    if address.as_usize() >= span(LEVELS) {
        return None;
    }
    let mut table = root;
    for level in (0..LEVELS).rev() {
        let entry = Entry(read_word(hal, table, index(address, level)));
        if !entry.is_valid() {
            return None;
        }
        if entry.is_leaf() {
            let offset = address.as_usize() & offset_mask(level);
            let host = entry.address().as_usize().wrapping_add(offset);
            return Some(Translation {
                host: HostPhysAddr::from_usize(host),
                flags: entry.flags(),
                level,
            });
        }
        table = entry.address();
    }
    None
}

/// A stage-2 table.
pub struct HostPageTable<H: AxVCpuHal> {
    hal: H,
    root: Frame<H>,
    /// The other tables, by where they are.
    tables: BTreeMap<HostPhysAddr, Frame<H>>,
}

impl<H: AxVCpuHal> HostPageTable<H> {
    /// Takes a frame for an empty root.
    pub(crate) fn new(hal: &H) -> Result<Self> {
        Ok(Self {
            hal: hal.clone(),
            root: Frame::new(hal).ok_or(Error::NoFrames)?,
            tables: BTreeMap::new(),
        })
    }

    fn table(&self, at: HostPhysAddr) -> Option<&Frame<H>> {
        match at == self.root.start() {
            true => Some(&self.root),
            false => self.tables.get(&at),
        }
    }

    /// Returns the table that holds the entry of `level`, making what is missing.
    fn table_for(&mut self, address: GuestPhysAddr, level: usize) -> AddrSpaceResult<&Frame<H>> {
        let mut at = self.root.start();
        for above in (level..LEVELS).skip(1).rev() {
            let slot = index(address, above);
            let table = self.table(at).ok_or(AddrSpaceError::MappingState)?;
            let entry = Entry(table.get(slot));
            if entry.is_valid() && entry.is_leaf() {
                return Err(AddrSpaceError::MappingConflict);
            }
            at = match entry.is_valid() {
                true => entry.address(),
                false => {
                    let below = Frame::new(&self.hal).ok_or(AddrSpaceError::MappingState)?;
                    let start = below.start();
                    self.table(at)
                        .ok_or(AddrSpaceError::MappingState)?
                        .set(slot, Entry::table(start).0);
                    self.tables.insert(start, below);
                    start
                }
            };
        }
        self.table(at).ok_or(AddrSpaceError::MappingState)
    }

    fn map_at(
        &mut self,
        address: GuestPhysAddr,
        to: HostPhysAddr,
        level: usize,
        flags: MappingFlags,
    ) -> AddrSpaceResult {
        let slot = index(address, level);
        let table = self.table_for(address, level)?;
        if Entry(table.get(slot)).is_valid() {
            return Err(AddrSpaceError::MappingConflict);
        }
        table.set(slot, Entry::leaf(to, flags).0);
        Ok(())
    }

    /// Finds the leaf for `address`: its table, its place, its level.
    fn leaf(&self, address: GuestPhysAddr) -> Option<(&Frame<H>, usize, usize)> {
        let found = walk(&self.hal, self.root.start(), address)?;
        let mut at = self.root.start();
        for above in (found.level..LEVELS).skip(1).rev() {
            at = Entry(self.table(at)?.get(index(address, above))).address();
        }
        Some((self.table(at)?, index(address, found.level), found.level))
    }

    /// Does something with each leaf of a range, passing over what is not mapped.
    fn each_leaf(&self, start: GuestPhysAddr, size: usize, change: impl Fn(Entry) -> Entry) {
        let end = start.as_usize().saturating_add(size);
        let mut at = start.as_usize();
        while at < end {
            let step = match self.leaf(GuestPhysAddr::from_usize(at)) {
                Some((table, slot, level)) => {
                    table.set(slot, change(Entry(table.get(slot))).0);
                    span(level)
                }
                None => FRAME_BYTES,
            };
            at = at.saturating_add(step);
        }
    }
}

/// Returns the largest level whose leaf fits both addresses and the size.
fn best_level(address: usize, to: usize, size: usize) -> usize {
    (0..LEVELS)
        .rev()
        .find(|&level| {
            let span = span(level);
            address.is_multiple_of(span) && to.is_multiple_of(span) && size >= span
        })
        .unwrap_or(0)
}

fn level_of(size: PageSize) -> AddrSpaceResult<usize> {
    match size {
        PageSize::Size4K => Ok(0),
        PageSize::Size2M => Ok(1),
        PageSize::Size1G => Ok(2),
        PageSize::Size1M => Err(AddrSpaceError::InvalidMapping),
    }
}

fn size_of_level(level: usize) -> PageSize {
    match level {
        0 => PageSize::Size4K,
        1 => PageSize::Size2M,
        _ => PageSize::Size1G,
    }
}

impl<H: AxVCpuHal> NestedPageTableOps for HostPageTable<H> {
    fn root_paddr(&self) -> HostPhysAddr {
        self.root.start()
    }

    fn levels(&self) -> usize {
        LEVELS
    }

    fn alloc_frame(&self) -> Option<HostPhysAddr> {
        self.hal.alloc_frames(1)
    }

    fn dealloc_frame(&self, frame: HostPhysAddr) {
        self.hal.free_frames(frame, 1);
    }

    fn phys_to_virt(&self, address: HostPhysAddr) -> HostVirtAddr {
        self.hal.phys_to_virt(address)
    }

    fn map(
        &mut self,
        address: GuestPhysAddr,
        to: HostPhysAddr,
        size: PageSize,
        flags: MappingFlags,
    ) -> AddrSpaceResult {
        self.map_at(address, to, level_of(size)?, flags)
    }

    fn unmap(
        &mut self,
        address: GuestPhysAddr,
    ) -> AddrSpaceResult<(HostPhysAddr, MappingFlags, PageSize)> {
        let (table, slot, level) = self
            .leaf(address)
            .ok_or(AddrSpaceError::Unmapped { address })?;
        let entry = Entry(table.get(slot));
        table.set(slot, Entry::EMPTY.0);
        Ok((entry.address(), entry.flags(), size_of_level(level)))
    }

    fn map_linear(
        &mut self,
        address: GuestPhysAddr,
        to: HostPhysAddr,
        size: usize,
        flags: MappingFlags,
        allow_huge: bool,
    ) -> AddrSpaceResult {
        let (mut from, mut to, mut left) = (address.as_usize(), to.as_usize(), size);
        while left > 0 {
            let level = match allow_huge {
                true => best_level(from, to, left),
                false => 0,
            };
            let (guest, host) = (
                GuestPhysAddr::from_usize(from),
                HostPhysAddr::from_usize(to),
            );
            self.map_at(guest, host, level, flags)?;
            let step = span(level);
            from = from.saturating_add(step);
            to = to.saturating_add(step);
            left = left.saturating_sub(step);
        }
        Ok(())
    }

    /// Passes over what is not mapped, as giving up a half-made mapping needs.
    fn unmap_region(&mut self, start: GuestPhysAddr, size: usize) -> AddrSpaceResult {
        self.each_leaf(start, size, |_| Entry::EMPTY);
        Ok(())
    }

    fn remap(&mut self, start: GuestPhysAddr, to: HostPhysAddr, flags: MappingFlags) -> bool {
        match self.leaf(start) {
            Some((table, slot, _)) => {
                table.set(slot, Entry::leaf(to, flags).0);
                true
            }
            None => self.map_at(start, to, 0, flags).is_ok(),
        }
    }

    fn protect_region(&mut self, start: GuestPhysAddr, size: usize, flags: MappingFlags) -> bool {
        self.each_leaf(start, size, |entry| match entry.is_valid() {
            true => Entry::leaf(entry.address(), flags),
            false => entry,
        });
        true
    }

    fn query(
        &self,
        address: GuestPhysAddr,
    ) -> AddrSpaceResult<(HostPhysAddr, MappingFlags, PageSize)> {
        walk(&self.hal, self.root.start(), address)
            .map(|found| (found.host, found.flags, size_of_level(found.level)))
            .ok_or(AddrSpaceError::Unmapped { address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::StdHost;
    use axaddrspace::AddrSpace;
    use proptest::prelude::*;
    use std::collections::BTreeMap as Model;

    const PAGE: usize = 4096;
    const RWX: MappingFlags = MappingFlags::READ
        .union(MappingFlags::WRITE)
        .union(MappingFlags::EXECUTE);

    fn gpa(address: usize) -> GuestPhysAddr {
        GuestPhysAddr::from_usize(address)
    }

    fn hpa(address: usize) -> HostPhysAddr {
        HostPhysAddr::from_usize(address)
    }

    #[derive(Clone, Debug)]
    enum Change {
        Map {
            page: usize,
            to: usize,
            is_writable: bool,
        },
        Unmap {
            page: usize,
        },
        UnmapRange {
            page: usize,
            pages: usize,
        },
        Protect {
            page: usize,
            pages: usize,
        },
    }

    fn any_change() -> impl Strategy<Value = Change> {
        // Pages around a boundary of tables, so that several tables are used.
        let page = || 500usize..524;
        prop_oneof![
            4 => (page(), 1usize..1000, any::<bool>())
                .prop_map(|(page, to, is_writable)| Change::Map { page, to, is_writable }),
            2 => page().prop_map(|page| Change::Unmap { page }),
            1 => (page(), 1usize..20).prop_map(|(page, pages)| Change::UnmapRange { page, pages }),
            1 => (page(), 1usize..20).prop_map(|(page, pages)| Change::Protect { page, pages }),
        ]
    }

    fn apply(
        table: &mut HostPageTable<StdHost>,
        model: &mut Model<usize, (usize, MappingFlags)>,
        change: Change,
    ) {
        match change {
            Change::Map {
                page,
                to,
                is_writable,
            } => {
                let flags = if is_writable { RWX } else { MappingFlags::READ };
                let mapped = table.map(gpa(page * PAGE), hpa(to * PAGE), PageSize::Size4K, flags);
                assert_eq!(mapped.is_ok(), !model.contains_key(&page));
                model.entry(page).or_insert((to, flags));
            }
            Change::Unmap { page } => {
                let unmapped = table.unmap(gpa(page * PAGE)).ok();
                let expected = model
                    .remove(&page)
                    .map(|(to, flags)| (hpa(to * PAGE), flags, PageSize::Size4K));
                assert_eq!(unmapped, expected);
            }
            Change::UnmapRange { page, pages } => {
                table.unmap_region(gpa(page * PAGE), pages * PAGE).unwrap();
                model.retain(|at, _| !(page..page + pages).contains(at));
            }
            Change::Protect { page, pages } => {
                assert!(table.protect_region(gpa(page * PAGE), pages * PAGE, MappingFlags::READ));
                for (_, (_, flags)) in model.range_mut(page..page + pages) {
                    *flags = MappingFlags::READ;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_map_of_pages(
            changes in proptest::collection::vec(any_change(), 1..60),
        ) {
            let host = StdHost::default();
            let mut table = HostPageTable::new(&host).unwrap();
            let mut model = Model::new();
            for change in changes {
                apply(&mut table, &mut model, change);
            }
            for page in 490..540 {
                let found = table.query(gpa(page * PAGE + 5)).ok();
                let expected = model
                    .get(&page)
                    .map(|(to, flags)| (hpa(to * PAGE + 5), *flags, PageSize::Size4K));
                prop_assert_eq!(found, expected);
            }
            drop(table);
            host.check();
        }

        #[test]
        fn a_linear_range_translates_everywhere_and_nowhere_else(
            start in 0usize..2048, to in 0usize..2048, pages in 1usize..1500,
        ) {
            let host = StdHost::default();
            let table = HostPageTable::new(&host).unwrap();
            let mut space = AddrSpace::new_empty(table, gpa(0), 1 << 39).unwrap();
            space.map_linear(gpa(start * PAGE), hpa(to * PAGE), pages * PAGE, RWX).unwrap();
            for page in 0..4096 {
                let is_inside = (start..start + pages).contains(&page);
                let expected = is_inside.then(|| hpa((page + to).saturating_sub(start) * PAGE));
                let found = space.translate(gpa(page * PAGE));
                prop_assert_eq!(found, expected);
            }
            drop(space);
            host.check();
        }
    }

    #[test]
    fn large_leaves_are_used_wherever_both_sides_are_aligned() {
        let host = StdHost::default();
        let mut table = HostPageTable::new(&host).unwrap();
        let (start, size) = ((1 << 30) - (2 << 20), (1 << 30) + (2 << 20) + PAGE);
        table
            .map_linear(gpa(start), hpa(start), size, RWX, true)
            .unwrap();
        let size_at = |address| table.query(gpa(address)).unwrap().2;
        assert_eq!(size_at(start + 5), PageSize::Size2M);
        assert_eq!(size_at(1 << 30), PageSize::Size1G);
        assert_eq!(size_at(2 << 30), PageSize::Size4K);
        assert!(table.query(gpa((2 << 30) + PAGE)).is_err());
    }

    #[test]
    fn addresses_beyond_the_root_are_not_mapped() {
        let host = StdHost::default();
        let mut table = HostPageTable::new(&host).unwrap();
        table.map(gpa(0), hpa(0), PageSize::Size1G, RWX).unwrap();
        assert!(table.query(gpa(0)).is_ok());
        for address in [1 << 39, 1 << 48, usize::MAX] {
            assert!(table.query(gpa(address)).is_err());
        }
    }
}
