// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Memory that the CPU itself reads and writes: control blocks, intercept maps.
//!
//! Taken zeroed and given back on drop.

use axvm::{AxVCpuHal, Error, HostPhysAddr, Result};

pub(crate) const PAGE_BYTES: usize = 4096;

/// Some frames side by side.
pub(crate) struct Frames<H: AxVCpuHal> {
    hal: H,
    start: HostPhysAddr,
    count: usize,
}

impl<H: AxVCpuHal> Frames<H> {
    /// Takes `count` frames, a power of two.
    pub(crate) fn new(hal: &H, count: usize) -> Result<Self> {
        Ok(Self {
            hal: hal.clone(),
            start: hal.alloc_frames(count).ok_or(Error::NoFrames)?,
            count,
        })
    }

    /// Returns the physical address of a frame.
    pub(crate) fn physical(&self, index: usize) -> u64 {
        let offset = index.saturating_mul(PAGE_BYTES);
        self.start.as_usize().saturating_add(offset) as u64
    }

    /// Returns where the hypervisor sees a frame.
    pub(crate) fn pointer(&self, index: usize) -> *mut u8 {
        let index = index.min(self.count.saturating_sub(1));
        let start = self.hal.phys_to_virt(self.start).as_usize();
        start.saturating_add(index.saturating_mul(PAGE_BYTES)) as *mut u8
    }

    /// Returns all bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let size = self.count.saturating_mul(PAGE_BYTES);
        // SAFETY: the frames are this value's alone, mapped and side by side.
        unsafe { core::slice::from_raw_parts_mut(self.pointer(0), size) }
    }
}

impl<H: AxVCpuHal> Drop for Frames<H> {
    fn drop(&mut self) {
        self.hal.free_frames(self.start, self.count);
    }
}
