// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Guest memory: all RAM of the machine that nobody else uses.
//!
//! Memory is zeroed when it is taken: what a VM left behind, and what firmware
//! left before any VM, is gone before another sees it.

use alloc::vec::Vec;

use axvm::HostPhysAddr;
use kspin::SpinNoIrq;
use platform::machine::PhysRange;

use super::{address_space, pool::Pool};

static POOL: SpinNoIrq<Pool> = SpinNoIrq::new(Pool::new());

/// Fills the pool and makes it reachable from the calling CPU; called once, by
/// the boot sequence.
pub fn init() {
    let machine = platform::machine();
    let mut free = Vec::new();
    machine.for_each_free(|range| free.push(range));
    {
        let mut pool = POOL.lock();
        for range in &free {
            pool.add(range.start, range.end);
        }
    }
    let handed_over = [machine.initrd, machine.fdt];
    free.extend(handed_over.into_iter().flatten());
    address_space::init(&merged(free));
    enter();
}

/// Changes the calling CPU over to the hypervisor's own address space.
pub fn enter() {
    address_space::enter();
}

/// Rounds ranges to pages and joins those that touch.
fn merged(mut ranges: Vec<PhysRange>) -> Vec<PhysRange> {
    const PAGE_BYTES: usize = 4096;
    ranges.sort_unstable();
    let mut joined: Vec<PhysRange> = Vec::new();
    for range in ranges {
        let start = range.start & !PAGE_BYTES.wrapping_sub(1);
        let end = range.end.next_multiple_of(PAGE_BYTES);
        match joined.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => joined.push(PhysRange { start, end }),
        }
    }
    joined
}

/// Returns how much guest memory is free.
pub fn free_bytes() -> usize {
    POOL.lock().free_bytes()
}

/// Takes zeroed memory.
pub(super) fn alloc(size_bytes: usize) -> Option<HostPhysAddr> {
    let start = HostPhysAddr::from_usize(POOL.lock().take(size_bytes)?);
    zero(start, size_bytes);
    Some(start)
}

/// Gives memory back.
pub(super) fn free(start: HostPhysAddr, size_bytes: usize) {
    POOL.lock().give(start.as_usize(), size_bytes);
}

/// Writes zeros over pages that nobody else uses.
///
/// A VM's RAM is hundreds of megabytes, which the machine itself may clear.
#[expect(unsafe_code, reason = "clears memory of the caller's")]
pub(super) fn zero(start: HostPhysAddr, size_bytes: usize) {
    /// Less is cleared faster than it is asked for.
    const BULK_BYTES: usize = 0x1_0000;
    let range = PhysRange::from_size(start.as_usize(), size_bytes);
    // SAFETY: the callers hand in memory that they own and have no reference into.
    if size_bytes >= BULK_BYTES && unsafe { platform::clear(range) } {
        return;
    }
    let start = axhal::mem::phys_to_virt(range.start.into());
    zero_lines(start.as_usize(), size_bytes);
}

/// Writes zeros in whole lines: stores and little else are a third of what `memset`
/// takes. Volatile, so that no compiler makes them a `memset`.
#[expect(unsafe_code, reason = "clears memory of the caller's")]
fn zero_lines(start: usize, size_bytes: usize) {
    type Line = [u128; LINE_WORDS];
    const LINE_WORDS: usize = 8;
    const LINE_BYTES: usize = size_of::<Line>();
    let lines = start as *mut Line;
    for line in 0..size_bytes.div_euclid(LINE_BYTES) {
        let words = lines.wrapping_add(line).cast::<u128>();
        for word in 0..LINE_WORDS {
            // SAFETY: the caller's memory is mapped, page-aligned and of this size,
            // and nobody else uses it.
            unsafe { words.wrapping_add(word).write_volatile(0) };
        }
    }
}

/// Returns the file that the boot loader handed over.
pub fn initrd() -> Option<&'static [u8]> {
    platform::machine().initrd.map(handed_over)
}

/// Returns the machine's device tree, if its firmware has one.
pub fn device_tree() -> Option<&'static [u8]> {
    platform::machine().fdt.map(handed_over)
}

#[expect(unsafe_code, reason = "the boot loader handed this memory over")]
fn handed_over(range: PhysRange) -> &'static [u8] {
    let start = axhal::mem::phys_to_virt(range.start.into()).as_usize();
    // SAFETY: the range is RAM and mapped by `init`; it is reserved, so that
    // neither ArceOS nor the pool ever hands it out and nobody writes it again.
    unsafe { core::slice::from_raw_parts(start as *const u8, range.size()) }
}
