// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Reads of the UART and of the GIC's distributor.
//!
//! Spec: Arm PL011 TRM, UARTFR; Arm GIC Architecture Specification, GICD_TYPER.

use crate::rounds::round_trip;
use rt::arch::gic;
use rt::machine::Failure;

const UART_FLAGS: usize = 0x0900_0018;
const DISTRIBUTOR_TYPE: usize = 4;

/// Measures the reads.
pub fn measure() -> Result<(), Failure> {
    let distributor_type = gic::distributor()? + DISTRIBUTOR_TYPE;
    round_trip("uart-status-read", || Ok(time_read(UART_FLAGS)))?;
    round_trip("gicd-read", || Ok(time_read(distributor_type)))?;
    Ok(())
}

fn time_read(address: usize) -> u64 {
    // SAFETY: reading these registers has no effect.
    unsafe {
        timed!("ldr {value:w}, [{address}]", address = in(reg) address, value = lateout(reg) _)
    }
}
