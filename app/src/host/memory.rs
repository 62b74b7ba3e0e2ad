// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Guest memory: all RAM of the machine that ArceOS does not use itself.
//!
//! The platform maps all RAM, so that a physical address is enough to reach it.
//! Memory is zeroed when it is taken: what a VM left behind, and what firmware
//! left before any VM, is gone before another sees it.

use axvm::HostPhysAddr;
use kspin::SpinNoIrq;

use super::pool::Pool;
use crate::firmware::{Firmware, Span};

static POOL: SpinNoIrq<Pool> = SpinNoIrq::new(Pool::new());

/// Fills the pool with the machine's RAM, less what is in use.
pub fn init(firmware: &Firmware) {
    let own = axhal::mem::phys_ram_ranges();
    let own = own.iter().map(|&(start, size)| Span {
        start,
        end: start.saturating_add(size),
    });
    let mut pool = POOL.lock();
    for span in firmware.free_ram(own) {
        pool.add(span.start, span.end);
    }
}

/// Returns how much guest memory is free.
pub fn free_bytes() -> usize {
    POOL.lock().free_bytes()
}

/// Takes zeroed memory.
pub(super) fn alloc(size_bytes: usize) -> Option<HostPhysAddr> {
    let start = POOL.lock().take(size_bytes)?;
    zero(axhal::mem::phys_to_virt(start.into()).as_usize(), size_bytes);
    Some(HostPhysAddr::from_usize(start))
}

/// Gives memory back.
pub(super) fn free(start: HostPhysAddr, size_bytes: usize) {
    POOL.lock().give(start.as_usize(), size_bytes);
}

/// Writes zeros over memory that nobody else uses.
#[expect(unsafe_code, reason = "clears memory that was just taken")]
pub(super) fn zero(start: usize, size_bytes: usize) {
    // SAFETY: the callers hand in memory that they took from an allocator just
    // now, mapped, of this size, and known to nobody else.
    unsafe { core::ptr::write_bytes(start as *mut u8, 0, size_bytes) };
}

/// Returns bytes of physical memory that are never written again.
///
/// Empty if the span is not wholly inside the machine's RAM.
#[expect(unsafe_code, reason = "the bundle is memory that firmware handed over")]
pub fn static_bytes(firmware: &Firmware, span: Span) -> &'static [u8] {
    if !firmware.is_ram(span) {
        return &[];
    }
    let start = axhal::mem::phys_to_virt(span.start.into()).as_usize();
    let size = span.end.saturating_sub(span.start);
    // SAFETY: the span is RAM, mapped by the platform, and kept out of both
    // ArceOS's memory and the pool, so that nobody writes it again.
    unsafe { core::slice::from_raw_parts(start as *const u8, size) }
}
