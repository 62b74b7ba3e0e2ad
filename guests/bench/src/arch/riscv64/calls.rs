// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Calls to the SBI that return.
//!
//! Spec: RISC-V SBI, "Base", "Timer", "RFENCE" extensions.

use crate::rounds::round_trip;
use rt::cpu;
use rt::machine::Failure;

/// An SBI call: extension, function and the first four arguments.
#[derive(Clone, Copy)]
pub struct Call {
    /// The extension's number.
    pub extension: usize,
    /// The function's number.
    pub function: usize,
    /// a0 to a3.
    pub arguments: [usize; 4],
}

/// The Timer extension.
pub const TIME: usize = 0x5449_4d45;
const BASE: usize = 0x10;
const PROBE_EXTENSION: usize = 3;
const SET_TIMER: usize = 0;
const RFENCE: usize = 0x5246_4e43;
const REMOTE_FENCE_I: usize = 0;
const REMOTE_SFENCE_VMA: usize = 1;
const PAGE_BYTES: usize = 4096;
// In the year 2300 at 10 MHz, so that no firmware can take it for "never".
const FAR: usize = 1 << 56;

/// Measures the calls.
pub fn measure() -> Result<(), Failure> {
    let own_hart = cpu::hardware_id(0).0 as usize;
    let here = rt::arch::machine::image_end() as usize;
    sbi("sbi-base-probe", BASE, PROBE_EXTENSION, [TIME, 0, 0, 0])?;
    sbi("sbi-set-timer-far", TIME, SET_TIMER, [FAR, 0, 0, 0])?;
    let range = [1, own_hart, here, PAGE_BYTES];
    sbi("rfence-self", RFENCE, REMOTE_SFENCE_VMA, range)?;
    sbi("rfence-i-self", RFENCE, REMOTE_FENCE_I, [1, own_hart, 0, 0])
}

fn sbi(
    name: &str,
    extension: usize,
    function: usize,
    arguments: [usize; 4],
) -> Result<(), Failure> {
    let call = Call {
        extension,
        function,
        arguments,
    };
    round_trip(name, || time_call(call)).map(drop)
}

fn time_call(call: Call) -> Result<u64, Failure> {
    let [a0, a1, a2, a3] = call.arguments;
    let error: usize;
    // SAFETY: the calls made here leave memory and all other registers alone.
    let ticks = unsafe {
        timed!(
            "ecall",
            inlateout("a0") a0 => error,
            inlateout("a1") a1 => _,
            in("a2") a2,
            in("a3") a3,
            in("a6") call.function,
            in("a7") call.extension,
        )
    };
    if error != 0 {
        return Err(Failure("an SBI call returned an error"));
    }
    Ok(ticks)
}
