// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the first and the second write to each page of fresh RAM costs, beyond a
//! write to a page that is in use.
//!
//! Called last, on RAM after this image that nobody has touched. A machine that
//! finds its memory only when it is used pays on the first touch.

use crate::arch::clock;
use crate::rounds;
use crate::samples::Figure;
use rt::arch::machine::{MAPPED_END, image_end};
use rt::machine::{Failure, Machine, Region};

const PAGE_BYTES: u64 = 4096;
const PAGES: u64 = 8192;
const ALIGNMENT: u64 = 2 << 20;

/// Measures both touches.
pub fn measure(machine: &Machine) -> Result<(), Failure> {
    let start = fresh_ram(machine)?;
    touch(start);
    let in_use = walk(start, 0);
    for name in ["fresh-ram-4k", "second-touch-4k"] {
        let touched = walk(start + PAGE_BYTES, PAGE_BYTES);
        rounds::report(name, touched.without(in_use));
    }
    Ok(())
}

#[cfg_attr(
    target_arch = "riscv64",
    expect(
        clippy::unnecessary_min_or_max,
        reason = "there is no end of the map there"
    )
)]
fn fresh_ram(machine: &Machine) -> Result<u64, Failure> {
    let image_end = image_end();
    let start = image_end.next_multiple_of(ALIGNMENT);
    let mut regions = machine.memory.iter();
    let home = regions.find(|region| region.contains(image_end));
    let end = home.map_or(0, Region::end).min(MAPPED_END);
    if end.saturating_sub(start) <= PAGES * PAGE_BYTES {
        return Err(Failure("too little RAM after the image"));
    }
    Ok(start)
}

// One loop for both, so that its own instructions are the same: a stride of zero
// touches a single page all the time.
#[inline(never)]
fn walk(start: u64, stride: u64) -> Figure {
    let before = clock::now();
    for page in 0..PAGES {
        touch(start + page * stride);
    }
    let ticks = clock::now().wrapping_sub(before);
    Figure::mean(ticks, PAGES, clock::frequency_hz())
}

fn touch(address: u64) {
    // SAFETY: RAM after this image, where nothing lives that is still needed.
    unsafe { (address as *mut u64).write_volatile(address) };
}
