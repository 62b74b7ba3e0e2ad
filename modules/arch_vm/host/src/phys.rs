// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Host memory as page tables and interpreted guests use it.
//!
//! The only unsafe code of this crate outside `testing`. A [`Frame`] owns one
//! frame of the host; [`load`], [`store`] and [`count`] are the memory
//! instructions of the interpreter, and take an address only from a stage-2
//! walk. All accesses are atomic, since vCPUs race as their guests please.
#![expect(unsafe_code, reason = "accesses to host frames and guest RAM")]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use axvm::{AccessWidth, AxVCpuHal, HostPhysAddr};

/// The size of a frame.
pub(crate) const FRAME_BYTES: usize = 4096;
/// How many words a frame has.
pub(crate) const FRAME_WORDS: usize = FRAME_BYTES / size_of::<u64>();

/// A frame of the host, zeroed when taken and given back on drop.
pub(crate) struct Frame<H: AxVCpuHal> {
    hal: H,
    start: HostPhysAddr,
}

impl<H: AxVCpuHal> Frame<H> {
    /// Takes a frame.
    pub(crate) fn new(hal: &H) -> Option<Self> {
        let start = hal.alloc_frames(1)?;
        let hal = hal.clone();
        Some(Self { hal, start })
    }

    /// Reads a word.
    pub(crate) fn get(&self, index: usize) -> u64 {
        read_word(&self.hal, self.start, index)
    }

    /// Writes a word.
    pub(crate) fn set(&self, index: usize, value: u64) {
        let address = word_address(&self.hal, self.start, index);
        // SAFETY: the address is inside this frame, which is ours until drop,
        // and 8-byte-aligned.
        unsafe { &*(address as *const AtomicU64) }.store(value, Ordering::Release);
    }
}

impl<H: AxVCpuHal> Drop for Frame<H> {
    fn drop(&mut self) {
        self.hal.free_frames(self.start, 1);
    }
}

/// Reads a word of the table whose frame starts at `frame`.
///
/// The caller got `frame` from a table that lives: its own root, or an entry.
pub(crate) fn read_word<H: AxVCpuHal>(hal: &H, frame: HostPhysAddr, index: usize) -> u64 {
    let address = word_address(hal, frame, index);
    // SAFETY: the caller vouches for the frame, the index is inside it, and the
    // address is 8-byte-aligned.
    unsafe { &*(address as *const AtomicU64) }.load(Ordering::Acquire)
}

fn word_address<H: AxVCpuHal>(hal: &H, frame: HostPhysAddr, index: usize) -> usize {
    let offset = (index % FRAME_WORDS).wrapping_mul(size_of::<u64>());
    hal.phys_to_virt(frame).as_usize().wrapping_add(offset)
}

/// Loads from guest RAM at an address that stage 2 gave, aligned to `width`.
pub(crate) fn load<H: AxVCpuHal>(hal: &H, at: HostPhysAddr, width: AccessWidth) -> u64 {
    let at = hal.phys_to_virt(at).as_usize();
    match width {
        AccessWidth::Byte => {
            // SAFETY: stage 2 maps this guest's RAM only, which outlives its run,
            // and the address is aligned.
            let cell = unsafe { &*(at as *const AtomicU8) };
            cell.load(Ordering::SeqCst).into()
        }
        AccessWidth::Word => {
            // SAFETY: stage 2 maps this guest's RAM only, which outlives its run,
            // and the address is aligned.
            let cell = unsafe { &*(at as *const AtomicU16) };
            cell.load(Ordering::SeqCst).into()
        }
        AccessWidth::Dword => {
            // SAFETY: stage 2 maps this guest's RAM only, which outlives its run,
            // and the address is aligned.
            let cell = unsafe { &*(at as *const AtomicU32) };
            cell.load(Ordering::SeqCst).into()
        }
        AccessWidth::Qword => {
            // SAFETY: stage 2 maps this guest's RAM only, which outlives its run,
            // and the address is aligned.
            let cell = unsafe { &*(at as *const AtomicU64) };
            cell.load(Ordering::SeqCst)
        }
    }
}

/// Stores the low bytes of `value`; the address as for [`load`].
pub(crate) fn store<H: AxVCpuHal>(hal: &H, at: HostPhysAddr, width: AccessWidth, value: u64) {
    let at = hal.phys_to_virt(at).as_usize();
    match width {
        AccessWidth::Byte => {
            // SAFETY: stage 2 maps this guest's RAM only, which outlives its run,
            // and the address is aligned.
            let cell = unsafe { &*(at as *const AtomicU8) };
            cell.store(value as u8, Ordering::SeqCst);
        }
        AccessWidth::Word => {
            // SAFETY: stage 2 maps this guest's RAM only, which outlives its run,
            // and the address is aligned.
            let cell = unsafe { &*(at as *const AtomicU16) };
            cell.store(value as u16, Ordering::SeqCst);
        }
        AccessWidth::Dword => {
            // SAFETY: stage 2 maps this guest's RAM only, which outlives its run,
            // and the address is aligned.
            let cell = unsafe { &*(at as *const AtomicU32) };
            cell.store(value as u32, Ordering::SeqCst);
        }
        AccessWidth::Qword => {
            // SAFETY: stage 2 maps this guest's RAM only, which outlives its run,
            // and the address is aligned.
            let cell = unsafe { &*(at as *const AtomicU64) };
            cell.store(value, Ordering::SeqCst);
        }
    }
}

/// Adds one to eight bytes and returns what they were; the address as for [`load`].
pub(crate) fn count<H: AxVCpuHal>(hal: &H, at: HostPhysAddr) -> u64 {
    let at = hal.phys_to_virt(at).as_usize();
    // SAFETY: stage 2 maps this guest's RAM only, which outlives its run, and
    // the address is aligned.
    unsafe { &*(at as *const AtomicU64) }.fetch_add(1, Ordering::SeqCst)
}
