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
    1 << (PAGE_BITS.saturating_add(TABLE_BITS.saturating_mul(level)))
}

fn index(address: GuestPhysAddr, level: usize) -> usize {
    (address.as_usize() / span(level)) % FRAME_WORDS
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
            let offset = address.as_usize() % span(level);
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
