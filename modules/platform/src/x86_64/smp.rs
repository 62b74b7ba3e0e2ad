// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Starts the other CPUs through a page of low memory.
//!
//! ArceOS starts one CPU at a time and waits for it, so one page and one
//! variable for the stack are enough.
//! Spec: Intel SDM volume 3, "MP Initialization Protocol".

use core::sync::atomic::{AtomicUsize, Ordering};

use axconfig::plat::PHYS_VIRT_OFFSET;
use axplat::time::{Duration, busy_wait};

use super::apic;
use crate::mem::linear;

/// Below the loader's information, which QEMU puts at 0x9000.
const START_PAGE: u8 = 6;

unsafe extern "C" {
    safe static ap_trampoline: [u8; 0];
    safe static ap_trampoline_end: [u8; 0];
    safe static ap_stack_top: AtomicUsize;
}

/// Starts the CPU with APIC id `target` on the stack that ends at physical address `stack_top`.
pub(super) fn start(target: usize, stack_top: usize) {
    prepare(stack_top);
    apic::send_init(target);
    busy_wait(Duration::from_millis(10));
    for _ in 0..2 {
        apic::send_startup(START_PAGE, target);
        busy_wait(Duration::from_micros(200));
    }
}

fn prepare(stack_top: usize) {
    let page = linear(usize::from(START_PAGE) << 12) as *mut u8;
    let start = ap_trampoline.as_ptr();
    let len = ap_trampoline_end.as_ptr() as usize - start as usize;
    // SAFETY: low memory is mapped and reserved for this; the trampoline is shorter than a page.
    unsafe { core::ptr::copy_nonoverlapping(start, page, len) };
    ap_stack_top.store(stack_top + PHYS_VIRT_OFFSET, Ordering::Release);
}
