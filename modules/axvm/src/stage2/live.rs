// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Pages that come and go while the guest runs: a device of the host that one
//! vCPU has for a while.
//!
//! Opened by an architecture over its VM's table, for addresses at which nothing
//! else is mapped; it has the page tables of these pages made once, so that to map
//! one is a store. What the hardware remembers of a page that has gone is the
//! caller's to drop.

use core::mem::ManuallyDrop;

use axvm_types::{GuestPhysAddr, HostPhysAddr};

use super::{Entry, PAGE_SHIFT, Stage2, TableFormat};
use crate::{AxVCpuHal, Error, MappingFlags, Result};

/// Some pages of a table that belongs to somebody else.
pub struct LivePages<H: AxVCpuHal, F: TableFormat> {
    /// The table as seen from here; its owner drops it.
    table: ManuallyDrop<Stage2<H, F>>,
    start: usize,
    pages: usize,
}

impl<H: AxVCpuHal, F: TableFormat> LivePages<H, F> {
    /// Opens so many pages, at which nothing is mapped afterwards.
    ///
    /// # Errors
    ///
    /// There is no frame for a table.
    ///
    /// # Safety
    /// 1. `root` is that of a [`Stage2`] of this host and format.
    /// 2. [`Self::set`] is called only while that table is there.
    /// 3. Nobody else maps or unmaps anything in the 2 MiB around a page of it.
    #[expect(unsafe_code, reason = "the table is somebody else's")]
    pub unsafe fn open(
        hal: &H,
        format: F,
        root: HostPhysAddr,
        (start, pages): (GuestPhysAddr, usize),
    ) -> Result<Self> {
        let hal = hal.clone();
        let live = Self {
            table: ManuallyDrop::new(Stage2 { hal, root, format }),
            start: start.as_usize(),
            pages,
        };
        for page in 0..pages {
            let found = live.table.walk_making(live.address(page), 0);
            found.map_err(|_| Error::NoFrames)?;
            live.set(page, None);
        }
        Ok(live)
    }

    /// Shows a page of the host's devices at one of the pages, or nothing.
    pub fn set(&self, page: usize, shown: Option<HostPhysAddr>) {
        if page >= self.pages {
            return;
        }
        let found = self.table.walk(self.address(page), 0);
        let flags = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::DEVICE;
        match (shown, found.slot.level) {
            (Some(to), 0) => {
                let set = self.table.set_leaf(found.slot, to, flags);
                debug_assert!(set.is_ok(), "every format has device memory");
            }
            (None, 0) => self.table.clear(found.slot),
            _ => debug_assert!(false, "the tables were made"),
        }
    }

    /// Returns what is shown at a page.
    pub fn get(&self, page: usize) -> Option<HostPhysAddr> {
        match self.table.walk(self.address(page), 0).entry {
            Entry::Leaf(to, _) => Some(to),
            _ => None,
        }
    }

    fn address(&self, page: usize) -> usize {
        self.start
            .wrapping_add(page.wrapping_shl(PAGE_SHIFT as u32))
    }
}
