// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A VM's stage-2 page table: radix tables of 512 entries, 4 KiB pages.
//!
//! Made by each architecture's `ArchVm`, which says by a [`TableFormat`] what an
//! entry looks like; filled by the address space; walked by the hardware. Levels
//! are counted from the leaves: 0 has pages, 1 leaves of 2 MiB, 2 of 1 GiB. The
//! root is as wide as the format's address bits leave for it, several frames
//! side by side if need be. A leaf is split when a part of it is unmapped or
//! protected, and no table is empty but the root. A table changes only while no
//! vCPU that uses it runs, and a VM gets a new VMID when it is started again, so
//! that nothing is invalidated here. [`LivePages`] alone change at any
//! time; whoever changes them sees to the rest.

mod live;
mod ops;
mod walk;

use axaddrspace::{AddrSpaceError, AddrSpaceResult};
use axvm_types::{GuestPhysAddr, HostPhysAddr};

use crate::{AxVCpuHal, Error, MappingFlags, Result};

pub use live::LivePages;

/// The bits of an address below the tables.
const PAGE_SHIFT: usize = 12;
/// The bits of an address that one table decodes.
const INDEX_BITS: usize = 9;
const TABLE_ENTRIES: usize = 1 << INDEX_BITS;
/// The highest level that has leaves: 1 GiB.
const LEAF_LEVEL_MAX: usize = 2;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing is mapped.
    Empty,
    /// The next table.
    Table(HostPhysAddr),
    /// Memory.
    Leaf(HostPhysAddr, MappingFlags),
}

/// The shape of an architecture's tables and the format of their entries.
pub trait TableFormat: Copy + Send + Sync + 'static {
    /// Returns how many address bits a guest has.
    fn address_bits(self) -> usize;

    /// Returns how many levels of tables there are.
    fn levels(self) -> usize;

    /// Returns the highest level that has leaves, at most 2.
    fn largest_leaf(self) -> usize {
        LEAF_LEVEL_MAX
    }

    /// Returns the entry that points to a table.
    fn table(self, table: HostPhysAddr) -> u64;

    /// Returns a leaf of a level, unless it cannot express the permissions.
    ///
    /// [`Self::entry`] gives back what went in.
    fn leaf(self, to: HostPhysAddr, flags: MappingFlags, level: usize) -> Option<u64>;

    /// Reads an entry of a level; zero is an empty one.
    fn entry(self, value: u64, level: usize) -> Entry;
}

/// A VM's stage-2 table.
pub struct Stage2<H: AxVCpuHal, F: TableFormat> {
    hal: H,
    root: HostPhysAddr,
    format: F,
}

impl<H: AxVCpuHal, F: TableFormat> Stage2<H, F> {
    /// Makes an empty table.
    pub fn new(hal: &H, format: F) -> Result<Self> {
        let frames = root_entries(format).div_ceil(TABLE_ENTRIES);
        Ok(Self {
            hal: hal.clone(),
            root: hal.alloc_frames(frames).ok_or(Error::NoFrames)?,
            format,
        })
    }

    /// Returns the table's format.
    pub fn format(&self) -> F {
        self.format
    }

    /// Returns the first address that is too large.
    fn end(&self) -> usize {
        1_usize.wrapping_shl(self.format.address_bits() as u32)
    }

    /// Returns the end of a range that lies wholly in guest space, in pages.
    fn end_of(&self, start: usize, size: usize) -> AddrSpaceResult<usize> {
        let end = start
            .checked_add(size)
            .ok_or(AddrSpaceError::AddressOverflow { start, size })?;
        if end > self.end() {
            return Err(AddrSpaceError::OutOfRange {
                start: GuestPhysAddr::from_usize(start),
                size,
                space_start: GuestPhysAddr::from_usize(0),
                space_end: GuestPhysAddr::from_usize(self.end()),
            });
        }
        if !is_aligned(start, 0) || !is_aligned(size, 0) {
            return Err(AddrSpaceError::InvalidMapping);
        }
        Ok(end)
    }
}

impl<H: AxVCpuHal, F: TableFormat> Drop for Stage2<H, F> {
    fn drop(&mut self) {
        self.free_tables(self.root, self.root_level());
        let frames = root_entries(self.format).div_ceil(TABLE_ENTRIES);
        self.hal.free_frames(self.root, frames);
    }
}

/// Returns how many entries the root has.
pub fn root_entries(format: impl TableFormat) -> usize {
    let below = span(format.levels().saturating_sub(1)).trailing_zeros();
    let bits = (format.address_bits() as u32).saturating_sub(below);
    1_usize.wrapping_shl(bits)
}

/// Returns how many bytes an entry of a level covers.
pub fn span(level: usize) -> usize {
    let shift = level.saturating_mul(INDEX_BITS).saturating_add(PAGE_SHIFT);
    1_usize.wrapping_shl(shift as u32)
}

fn is_aligned(address: usize, level: usize) -> bool {
    address & span(level).wrapping_sub(1) == 0
}

/// Returns the first address behind the entry of a level that covers `at`.
fn after(at: usize, level: usize) -> usize {
    (at | span(level).wrapping_sub(1)).wrapping_add(1)
}

fn plus(address: HostPhysAddr, bytes: usize) -> HostPhysAddr {
    HostPhysAddr::from_usize(address.as_usize().wrapping_add(bytes))
}
