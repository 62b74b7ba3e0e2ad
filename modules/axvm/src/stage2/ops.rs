// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the address space asks of a stage-2 table.
//!
//! Each operation checks its range and permissions, then changes, so that a
//! refused one leaves the table as it was.

use axaddrspace::{AddrSpaceError, AddrSpaceResult, NestedPageTableOps, PageSize};
use axvm_types::{GuestPhysAddr, HostPhysAddr, HostVirtAddr};

use super::{
    Entry, Stage2, TableFormat, is_aligned, plus, span,
    walk::{Piece, Slot},
};
use crate::{AxVCpuHal, MappingFlags};

/// A leaf and where it is.
struct Leaf {
    slot: Slot,
    to: HostPhysAddr,
    flags: MappingFlags,
}

impl Leaf {
    fn describe(&self) -> (HostPhysAddr, MappingFlags, PageSize) {
        (self.to, self.flags, page_size(self.slot.level))
    }
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

impl<H: AxVCpuHal, F: TableFormat> Stage2<H, F> {
    fn leaf_at(&self, address: GuestPhysAddr) -> AddrSpaceResult<Leaf> {
        let at = Some(address.as_usize()).filter(|at| *at < self.end());
        let found = at.map(|at| self.walk(at, 0));
        match found.map(|found| (found.slot, found.entry)) {
            Some((slot, Entry::Leaf(to, flags))) => Ok(Leaf { slot, to, flags }),
            _ => Err(AddrSpaceError::Unmapped { address }),
        }
    }

    /// Refuses permissions that no leaf can have.
    fn check(&self, flags: MappingFlags) -> AddrSpaceResult {
        let leaf = self.format.leaf(HostPhysAddr::from_usize(0), flags, 0);
        leaf.map(|_| ()).ok_or(AddrSpaceError::InvalidMapping)
    }

    fn try_protect(&self, start: usize, size: usize, flags: MappingFlags) -> AddrSpaceResult {
        self.check(flags)?;
        let end = self.end_of(start, size)?;
        if !self.is_all_mapped(start, end) {
            return Err(AddrSpaceError::MappingState);
        }
        self.for_each(start, size, |found, _| match found.entry {
            Entry::Leaf(to, _) => self.set_leaf(found.slot, to, flags),
            _ => Ok(()),
        })
    }
}

impl<H: AxVCpuHal, F: TableFormat> NestedPageTableOps for Stage2<H, F> {
    fn root_paddr(&self) -> HostPhysAddr {
        self.root
    }

    fn levels(&self) -> usize {
        self.format.levels()
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
        let level = level_of(size)?;
        let at = address.as_usize();
        self.check(flags)?;
        self.end_of(at, size.into())?;
        if level > self.format.largest_leaf() || !is_aligned(at | to.as_usize(), level) {
            return Err(AddrSpaceError::InvalidMapping);
        }
        self.map_one(Piece { at, to, flags }, level)
    }

    fn unmap(
        &mut self,
        address: GuestPhysAddr,
    ) -> AddrSpaceResult<(HostPhysAddr, MappingFlags, PageSize)> {
        let leaf = self.leaf_at(address)?;
        self.clear(leaf.slot);
        self.prune(address.as_usize());
        Ok(leaf.describe())
    }

    fn map_linear(
        &mut self,
        address: GuestPhysAddr,
        to: HostPhysAddr,
        size: usize,
        flags: MappingFlags,
        allow_huge: bool,
    ) -> AddrSpaceResult {
        let start = address.as_usize();
        self.check(flags)?;
        let end = self.end_of(start, size)?;
        if !is_aligned(to.as_usize(), 0) {
            return Err(AddrSpaceError::InvalidMapping);
        }
        let mut piece = Piece {
            at: start,
            to,
            flags,
        };
        while piece.at < end {
            let level = match allow_huge {
                true => self.best_level(piece, end.saturating_sub(piece.at)),
                false => 0,
            };
            if let Err(error) = self.map_one(piece, level) {
                self.unmap_region(address, piece.at.saturating_sub(start))?;
                return Err(error);
            }
            piece.at = piece.at.saturating_add(span(level));
            piece.to = plus(piece.to, span(level));
        }
        Ok(())
    }

    /// Passes over what is not mapped, as giving up a half-made mapping needs.
    fn unmap_region(&mut self, start: GuestPhysAddr, size: usize) -> AddrSpaceResult {
        let mut last_table = None;
        self.for_each(start.as_usize(), size, |found, at| {
            if found.entry != Entry::Empty {
                self.clear(found.slot);
            }
            match last_table.replace((found.slot.table, at)) {
                Some((table, left)) if table != found.slot.table => self.prune(left),
                _ => {}
            }
            Ok(())
        })?;
        if let Some((_, at)) = last_table {
            self.prune(at);
        }
        Ok(())
    }

    fn remap(&mut self, start: GuestPhysAddr, to: HostPhysAddr, flags: MappingFlags) -> bool {
        let aligned = |leaf: &Leaf| is_aligned(to.as_usize(), leaf.slot.level);
        let leaf = self.leaf_at(start).ok().filter(aligned);
        leaf.is_some_and(|leaf| self.set_leaf(leaf.slot, to, flags).is_ok())
    }

    /// Changes nothing unless the whole range is mapped.
    fn protect_region(&mut self, start: GuestPhysAddr, size: usize, flags: MappingFlags) -> bool {
        self.try_protect(start.as_usize(), size, flags).is_ok()
    }

    fn query(
        &self,
        address: GuestPhysAddr,
    ) -> AddrSpaceResult<(HostPhysAddr, MappingFlags, PageSize)> {
        let leaf = self.leaf_at(address)?;
        let offset = address.as_usize() & span(leaf.slot.level).wrapping_sub(1);
        let (block, flags, size) = leaf.describe();
        Ok((plus(block, offset), flags, size))
    }
}
