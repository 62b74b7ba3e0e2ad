// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A VM's RAM, and the only code that touches it.
//!
//! RAM is host memory in a few large blocks, taken zeroed and given back on
//! drop. Guests and devices write it at any time from other CPUs, so no
//! reference into it is ever made: [`Ram`] copies with relaxed atomic accesses,
//! eight bytes at a time where the addresses allow it, and only after the whole
//! range was found to lie in one block.
#![expect(unsafe_code, reason = "the one place that dereferences guest memory")]

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use axdevice::{GuestMemory, OutsideRam};
use axvm_types::{GuestPhysAddr, HostPhysAddr};

use crate::{AxVCpuHal, AxVMHal, Error, RamRegion, Result};

const WORD_BYTES: usize = size_of::<u64>();
/// Words that are written in one turn of a loop.
const LINE_WORDS: usize = 8;

/// A region of RAM and the host memory behind it.
struct Block {
    region: RamRegion,
    host: HostPhysAddr,
}

/// One VM's RAM.
pub struct Ram<H: AxVMHal> {
    hal: H,
    blocks: Vec<Block>,
}

impl<H: AxVMHal> Ram<H> {
    /// Takes host memory for every region, or for none.
    pub(crate) fn new(hal: &H, layout: &[RamRegion]) -> Result<Self> {
        let mut ram = Self {
            hal: hal.clone(),
            blocks: Vec::with_capacity(layout.len()),
        };
        for &region in layout {
            let size_bytes = region.size_bytes;
            let host = hal
                .alloc_ram(size_bytes)
                .ok_or(Error::NoRam { size_bytes })?;
            ram.blocks.push(Block { region, host });
        }
        Ok(ram)
    }

    /// Returns each region with the host memory behind it.
    pub fn regions(&self) -> impl Iterator<Item = (RamRegion, HostPhysAddr)> + '_ {
        self.blocks.iter().map(|block| (block.region, block.host))
    }

    /// Returns the size of all regions together.
    pub fn size_bytes(&self) -> usize {
        self.blocks
            .iter()
            .fold(0, |sum, block| sum.saturating_add(block.region.size_bytes))
    }

    /// Writes zeros over everything, so that a new boot finds nothing of the last.
    pub(crate) fn zero(&self) {
        for block in &self.blocks {
            self.hal.zero_ram(block.host, block.region.size_bytes);
        }
    }

    /// Tells whether the range is wholly RAM.
    pub fn contains(&self, start: GuestPhysAddr, size_bytes: usize) -> bool {
        self.find(start, size_bytes).is_ok()
    }

    /// Reads eight bytes at once at an address that is a multiple of eight.
    #[inline]
    pub fn word(&self, at: GuestPhysAddr) -> Option<u64> {
        let at = self.find(at, WORD_BYTES).ok()?;
        if !at.is_multiple_of(WORD_BYTES) {
            return None;
        }
        // SAFETY: `find` proved the bytes to be this VM's RAM, and they are aligned.
        let word = unsafe { &*(at as *const AtomicU64) };
        Some(u64::from_le(word.load(Ordering::Relaxed)))
    }

    /// Replaces a byte at once, if it is still `old`; tells whether it was.
    pub fn exchange(&self, at: GuestPhysAddr, old: u8, new: u8) -> bool {
        let Ok(at) = self.find(at, 1) else {
            return false;
        };
        // SAFETY: `find` proved the byte to be this VM's RAM.
        let byte = unsafe { &*(at as *const AtomicU8) };
        let result = byte.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
        result.is_ok()
    }

    /// Returns where the hypervisor sees a range that is wholly RAM.
    fn find(
        &self,
        start: GuestPhysAddr,
        size_bytes: usize,
    ) -> core::result::Result<usize, OutsideRam> {
        let inside = |block: &Block| {
            let offset = start
                .as_usize()
                .checked_sub(block.region.start.as_usize())?;
            let end = offset.checked_add(size_bytes)?;
            if end > block.region.size_bytes {
                return None;
            }
            let base = self.hal.phys_to_virt(block.host).as_usize();
            base.checked_add(offset)
        };
        self.blocks
            .iter()
            .find_map(inside)
            .ok_or(OutsideRam { start, size_bytes })
    }
}

impl<H: AxVMHal> GuestMemory for Ram<H> {
    fn read(&self, from: GuestPhysAddr, to: &mut [u8]) -> core::result::Result<(), OutsideRam> {
        let mut at = self.find(from, to.len())?;
        let (head, body) = to.split_at_mut(bytes_to_word(at).min(to.len()));
        at = read_bytes(at, head);
        let mut words = body.chunks_exact_mut(WORD_BYTES);
        for word in &mut words {
            // SAFETY: `find` proved the range to be this VM's RAM, and `at` is
            // word-aligned after the head.
            let value = unsafe { &*(at as *const AtomicU64) }.load(Ordering::Relaxed);
            word.copy_from_slice(&value.to_ne_bytes());
            at = at.wrapping_add(WORD_BYTES);
        }
        read_bytes(at, words.into_remainder());
        Ok(())
    }

    fn write(&self, to: GuestPhysAddr, from: &[u8]) -> core::result::Result<(), OutsideRam> {
        let mut at = self.find(to, from.len())?;
        let (head, body) = from.split_at(bytes_to_word(at).min(from.len()));
        at = write_bytes(at, head);
        let (words, tail) = body.as_chunks::<WORD_BYTES>();
        // SAFETY: any eight bytes are a word.
        at = match unsafe { words.align_to::<[u64; LINE_WORDS]>() } {
            ([], lines, rest) => write_words(write_lines(at, lines), rest),
            _ => write_words(at, words),
        };
        write_bytes(at, tail);
        Ok(())
    }
}

/// A page of the hypervisor's that a guest can read.
pub struct RecordPage<H: AxVCpuHal> {
    hal: H,
    frame: HostPhysAddr,
}

impl<H: AxVCpuHal> RecordPage<H> {
    /// Its size.
    pub const BYTES: usize = 4096;

    /// Takes a zeroed page.
    pub(crate) fn new(hal: &H) -> Result<Self> {
        let frame = hal.alloc_frames(1).ok_or(Error::NoFrames)?;
        Ok(Self {
            hal: hal.clone(),
            frame,
        })
    }

    pub(crate) fn frame(&self) -> HostPhysAddr {
        self.frame
    }

    /// Returns the host it is of.
    pub fn hal(&self) -> &H {
        &self.hal
    }

    /// Writes a number at an offset that is a multiple of its size; what is
    /// outside the page is ignored.
    pub fn write(&self, offset: usize, value: u64) {
        if offset >= Self::BYTES || !offset.is_multiple_of(WORD_BYTES) {
            return;
        }
        let start = self.hal.phys_to_virt(self.frame).as_usize();
        // SAFETY: `offset` is inside the page, which is ours until drop, and
        // aligned as a number is.
        let word = unsafe { &*(start.wrapping_add(offset) as *const AtomicU64) };
        word.store(value.to_le(), Ordering::Relaxed);
    }

    /// Writes zeros over all of it.
    pub(crate) fn zero(&self) {
        for offset in (0..Self::BYTES).step_by(WORD_BYTES) {
            self.write(offset, 0);
        }
    }
}

impl<H: AxVCpuHal> Drop for RecordPage<H> {
    fn drop(&mut self) {
        self.hal.free_frames(self.frame, 1);
    }
}

/// Returns how many bytes lie before the next word boundary.
fn bytes_to_word(at: usize) -> usize {
    at.wrapping_neg() % WORD_BYTES
}

/// Reads single bytes of RAM that `find` has accepted; returns where it stopped.
fn read_bytes(at: usize, to: &mut [u8]) -> usize {
    for (i, byte) in to.iter_mut().enumerate() {
        // SAFETY: the caller's range lies in this VM's RAM.
        *byte = unsafe { &*(at.wrapping_add(i) as *const AtomicU8) }.load(Ordering::Relaxed);
    }
    at.wrapping_add(to.len())
}

/// Writes single bytes of RAM that `find` has accepted; returns where it stopped.
fn write_bytes(at: usize, from: &[u8]) -> usize {
    for (i, &byte) in from.iter().enumerate() {
        // SAFETY: the caller's range lies in this VM's RAM.
        unsafe { &*(at.wrapping_add(i) as *const AtomicU8) }.store(byte, Ordering::Relaxed);
    }
    at.wrapping_add(from.len())
}

/// Writes words to aligned RAM that `find` has accepted; returns where it stopped.
fn write_words(mut at: usize, from: &[[u8; WORD_BYTES]]) -> usize {
    for word in from {
        at = write_word(at, u64::from_ne_bytes(*word));
    }
    at
}

/// Writes words that are aligned themselves, as those of a kernel's image are.
///
/// It has tens of megabytes: a load and a store for each word, and little else.
fn write_lines(mut at: usize, from: &[[u64; LINE_WORDS]]) -> usize {
    for line in from {
        for word in line {
            at = write_word(at, *word);
        }
    }
    at
}

fn write_word(at: usize, word: u64) -> usize {
    // SAFETY: the callers' ranges lie in this VM's RAM, and begin at a word.
    let slot = unsafe { &*(at as *const AtomicU64) };
    slot.store(word, Ordering::Relaxed);
    at.wrapping_add(WORD_BYTES)
}

impl<H: AxVMHal> Drop for Ram<H> {
    fn drop(&mut self) {
        for block in &self.blocks {
            self.hal.free_ram(block.host, block.region.size_bytes);
        }
    }
}
