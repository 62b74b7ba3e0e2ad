// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Calls to the firmware that return, by HVC or SMC as the device tree says.
//!
//! Spec: Arm PSCI (DEN 0022), PSCI_VERSION; SMCCC (DEN 0028), SMCCC_VERSION.

use crate::rounds::round_trip;
use rt::arch::power;
use rt::firmware::arm::Conduit;
use rt::machine::Failure;

const PSCI_VERSION: u64 = 0x8400_0000;
const SMCCC_VERSION: u64 = 0x8000_0000;

/// Measures the calls.
pub fn measure() -> Result<(), Failure> {
    let time: fn(u64) -> u64 = match power::conduit() {
        Conduit::Hvc => time_hvc,
        Conduit::Smc => time_smc,
    };
    round_trip("psci-version", || Ok(time(PSCI_VERSION)))?;
    round_trip("smccc-version", || Ok(time(SMCCC_VERSION)))?;
    Ok(())
}

/// Times one call by an instruction; what SMCCC 1.0 lets it destroy is listed.
macro_rules! time_call {
    ($instruction:literal, $function:ident) => {
        timed!(
            $instruction,
            inlateout("x0") $function => _,
            out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _,
            out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
            out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _,
        )
    };
}

fn time_hvc(function: u64) -> u64 {
    // SAFETY: the calls made here only return a version.
    unsafe { time_call!("hvc #0", function) }
}

fn time_smc(function: u64) -> u64 {
    // SAFETY: as for `time_hvc`.
    unsafe { time_call!("smc #0", function) }
}
