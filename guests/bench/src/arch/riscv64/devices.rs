// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Reads of the UART and of the PLIC of the `virt` machine.
//!
//! Spec: 16550 data sheet; RISC-V PLIC, "Interrupt Claim Process".

use super::interrupts::plic;
use crate::rounds::round_trip;
use rt::machine::Failure;

const LINE_STATUS: usize = 0x1000_0005;

/// Measures the reads.
pub fn measure() -> Result<(), Failure> {
    round_trip("uart-status-read", || Ok(time_read_u8(LINE_STATUS)))?;
    round_trip("plic-claim-none", || Ok(time_read_u32(plic::claim())))?;
    Ok(())
}

fn time_read_u8(address: usize) -> u64 {
    // SAFETY: reading a device's status has no effect on memory.
    unsafe {
        timed!("lbu {value}, 0({address})", address = in(reg) address, value = lateout(reg) _)
    }
}

fn time_read_u32(address: usize) -> u64 {
    // SAFETY: as for `time_read_u8`.
    unsafe { timed!("lw {value}, 0({address})", address = in(reg) address, value = lateout(reg) _) }
}
