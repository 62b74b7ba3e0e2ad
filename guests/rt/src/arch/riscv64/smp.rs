// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Starting and stopping harts by SBI.
//!
//! `start` and `is_stopped` are called on the boot CPU, `stop` on the others.
//!
//! Spec: RISC-V SBI, "Hart State Management Extension".

use super::irq;
use crate::cpu;
use crate::machine::Failure;
use crate::wait;

const STOPPED: usize = 1;

unsafe extern "C" {
    fn secondary_entry();
}

/// Starts the CPU with this index.
pub fn start(index: usize) -> Result<(), Failure> {
    let hart = cpu::hardware_id(index).0 as usize;
    let entry = secondary_entry as *const () as usize;
    // Firmware may still be bringing that hart up, and refuse until it has.
    wait::spin_until("SBI hart_start", || {
        sbi_rt::hart_start(hart, entry, index).is_ok()
    })
}

/// Tells whether firmware says that the CPU with this index has stopped.
pub fn is_stopped(index: usize) -> bool {
    let hart = cpu::hardware_id(index).0 as usize;
    sbi_rt::hart_get_status(hart).ok() == Some(STOPPED)
}

/// Stops the CPU that asks.
pub fn stop() -> ! {
    irq::mask();
    let _ = sbi_rt::hart_stop();
    crate::fail(Failure("SBI hart_stop"))
}
