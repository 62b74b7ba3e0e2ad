// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Leaving the machine: ACPI's soft off, QEMU's debug exit, or a reset.
//!
//! Called last, by any CPU. A PC cannot say that a run failed; QEMU's
//! isa-debug-exit at 0xf4 can, where the machine has one.
//!
//! Spec: ACPI, "PM1 Control Registers", "Sleeping States"; Intel ICH9, RST_CNT.

use super::{irq, port, trap};
use crate::Ending;
use crate::firmware::acpi::SoftOff;
use spin::Once;

// What q35 has, for a loader that hides the tables.
const Q35: SoftOff = SoftOff {
    port: 0x604,
    value: 1 << 13,
};
const DEBUG_EXIT: u16 = 0xf4;
const DEBUG_EXIT_DONE: u32 = 0x10;
const DEBUG_EXIT_FAILED: u32 = 0x01;
const RESET_CONTROL: u16 = 0xcf9;
const RESET_HARD: u8 = 0x02;
const RESET_NOW: u8 = 0x06;
const KEYBOARD_COMMAND: u16 = 0x64;
const KEYBOARD_RESET: u8 = 0xfe;

static SOFT_OFF: Once<SoftOff> = Once::new();

/// Notes what ACPI says about powering off.
pub fn set_soft_off(soft_off: SoftOff) {
    SOFT_OFF.call_once(|| soft_off);
}

/// Powers off or resets the machine.
pub fn end(ending: Ending) -> ! {
    irq::mask();
    match ending {
        Ending::Reboot => reset(),
        Ending::Failed => {
            port::write_u32(DEBUG_EXIT, DEBUG_EXIT_FAILED);
            soft_off();
        }
        Ending::Done => {
            soft_off();
            port::write_u32(DEBUG_EXIT, DEBUG_EXIT_DONE);
        }
    }
    say!("the machine cannot be left");
    halt_for_good()
}

/// Stops this CPU for good.
pub fn halt_for_good() -> ! {
    loop {
        irq::halt_masked();
    }
}

fn soft_off() {
    let SoftOff { port, value } = SOFT_OFF.get().copied().unwrap_or(Q35);
    port::write_u16(port, value);
}

fn reset() {
    port::write_u8(RESET_CONTROL, RESET_HARD);
    port::write_u8(RESET_CONTROL, RESET_NOW);
    port::write_u8(KEYBOARD_COMMAND, KEYBOARD_RESET);
    trap::deinit();
    // SAFETY: ends this program by a triple fault.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}
