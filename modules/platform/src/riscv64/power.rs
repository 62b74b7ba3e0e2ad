// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Starting harts by SBI, and ending QEMU by its test finisher.
//!
//! Spec: RISC-V SBI, "Hart State Management", "System Reset".

use axconfig::devices::FINISHER_PADDR;
use axplat::mem::{va, virt_to_phys};

use super::boot::{set_starting_stack, start_secondary};
use crate::{ExitStatus, mem::linear};

const FINISHER_PASS: u32 = 0x5555;
const FINISHER_FAIL: u32 = 0x3333 | 1 << 16;

/// Starts `hart` on the stack that ends at physical address `stack_top`.
pub(crate) fn start_cpu(hart: usize, stack_top: usize) {
    set_starting_stack(stack_top);
    let entry = virt_to_phys(va!(start_secondary as *const () as usize));
    let result = sbi_rt::hart_start(hart, entry.as_usize(), stack_top);
    if result.is_err() {
        log::error!("the firmware does not start hart {hart}: {result:?}");
    }
}

/// Ends the machine; returns only if it cannot.
pub(crate) fn off(status: ExitStatus) {
    let code = match status {
        ExitStatus::Success => FINISHER_PASS,
        ExitStatus::Failure => FINISHER_FAIL,
    };
    let finisher = linear(FINISHER_PADDR) as *mut u32;
    // SAFETY: the page is mapped as device memory; where no finisher is, the write is ignored or
    // faults, which is what an ending machine may do.
    unsafe { finisher.write_volatile(code) };
    sbi_rt::system_reset(sbi_rt::Shutdown, sbi_rt::NoReason);
}
