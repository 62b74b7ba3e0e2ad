// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Starting CPUs, and ending QEMU or Bochs.
//!
//! QEMU's isa-debug-exit ends it with status 2 v + 1 for a value v, which the
//! build's runner maps back to 0 or 1; without the device the ACPI ports of
//! QEMU's machines and Bochs's shutdown port are tried.

use x86_64::instructions::port::Port;

use super::{console, smp};
use crate::ExitStatus;

const DEBUG_EXIT: u16 = 0xf4;
const EXIT_SUCCESS: u32 = 0x10;
const EXIT_FAILURE: u32 = 0x11;
const ACPI_SLEEP_PORTS: [u16; 2] = [0x604, 0xb004];
const ACPI_SLEEP: u16 = 0x2000;
const BOCHS_SHUTDOWN: u16 = 0x8900;

/// Starts the CPU with APIC id `target` on the stack that ends at physical address `stack_top`.
pub(crate) fn start_cpu(target: usize, stack_top: usize) {
    smp::start(target, stack_top);
}

/// Ends the machine; returns only if it cannot.
pub(crate) fn off(status: ExitStatus) {
    let code = match status {
        ExitStatus::Success => EXIT_SUCCESS,
        ExitStatus::Failure => EXIT_FAILURE,
    };
    console::drain();
    // SAFETY: the machine ends here; what a port does on other machines no longer matters.
    unsafe { Port::<u32>::new(DEBUG_EXIT).write(code) };
    for port in ACPI_SLEEP_PORTS {
        // SAFETY: as above.
        unsafe { Port::<u16>::new(port).write(ACPI_SLEEP) };
    }
    for &byte in b"Shutdown" {
        // SAFETY: as above.
        unsafe { Port::<u8>::new(BOCHS_SHUTDOWN).write(byte) };
    }
}
