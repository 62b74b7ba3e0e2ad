// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Leaving the machine: SBI system reset, else the sifive-test finisher.
//!
//! Called last, by any CPU. A failure goes to the finisher first, if it is
//! there: firmware may know how to power off and yet forget the reason.
//!
//! Spec: RISC-V SBI, "System Reset Extension".

use super::{csr, irq, trap};
use crate::Ending;
use sbi_rt::{ColdReboot, NoReason, Shutdown, SystemFailure};

const FINISHER: *mut u32 = 0x10_0000 as *mut u32;
const PASS: u32 = 0x5555;
const FAIL: u32 = 0x1_3333;
const RESET: u32 = 0x7777;

/// Powers off or resets the machine.
pub fn end(ending: Ending) -> ! {
    irq::mask();
    // A call returns if the extension is missing; the device comes next then.
    match ending {
        Ending::Done => {
            let _ = sbi_rt::system_reset(Shutdown, NoReason);
            finish(PASS);
        }
        Ending::Failed => {
            finish(FAIL);
            let _ = sbi_rt::system_reset(Shutdown, SystemFailure);
        }
        Ending::Reboot => {
            let _ = sbi_rt::system_reset(ColdReboot, NoReason);
            finish(RESET);
        }
    }
    say!("the machine cannot be left");
    halt_for_good()
}

/// Stops this CPU for good.
pub fn halt_for_good() -> ! {
    csr!("csrw", "sie", 0);
    loop {
        irq::halt();
    }
}

fn finish(word: u32) {
    if trap::probe(FINISHER.addr()).is_ok() {
        // SAFETY: something is here, by the machine's definition the finisher,
        // which does not touch memory.
        unsafe { FINISHER.write_volatile(word) };
    }
}
