// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Devices as a kernel's odd accesses and its clock's alarm find them.
//!
//! Called after the other checks, interrupts masked, every other hart stopped. Each
//! kind of load and store is tried on registers that keep what is written; what no
//! device takes must be this hart's fault, told by the cause and the address that
//! hardware tells.
//!
//! Spec: RISC-V Privileged, scause; RISC-V PLIC; "Goldfish virtual hardware", RTC.

use core::arch::asm;

use rt::{
    machine::{Failure, Machine},
    say,
};

use crate::{attempt::attempt, call::Trap, checks};

const UART_SCRATCH: usize = 0x1000_0007;
const UART_MISALIGNED: usize = 0x1000_0001;
const PLIC: usize = 0x0c00_0000;
const RTC: usize = 0x10_1000;
const RTC_SOURCE: u32 = 11;
/// The supervisor's external interrupt in sie.
const EXTERNAL: usize = 1 << 9;

const FETCH_ACCESS_FAULT: usize = 1;
/// Of an address that is misaligned, and of an access that is refused.
const LOAD_FAULTS: [usize; 2] = [4, 5];
const STORE_FAULTS: [usize; 2] = [6, 7];

const ALARM_NS: u64 = 20_000_000;
const PATIENCE_NS: u64 = 20_000_000_000;

type Checked = Result<(), Failure>;

/// Runs all checks.
pub fn run(machine: &Machine) -> Checked {
    widths()?;
    refusals()?;
    say!("device accesses passed");
    alarm(machine.cpus.first().map_or(0, |hart| hart.0 as usize))?;
    say!("RTC alarm passed");
    Ok(())
}

fn hold(what: &'static str, is_true: bool) -> Checked {
    match is_true {
        true => Ok(()),
        false => Err(Failure(what)),
    }
}

/// Each width, signed and not, whole and compressed.
fn widths() -> Checked {
    let written = attempt!("sb a0, 0(a1)", UART_SCRATCH, 0x85_usize);
    hold("a byte is written", written.is_ok())?;
    let signed = attempt!("lb a0, 0(a1)", UART_SCRATCH, 0_usize);
    hold("a signed byte", signed == Ok(0x85_u8 as i8 as usize))?;
    let unsigned = attempt!("lbu a0, 0(a1)", UART_SCRATCH, 0_usize);
    hold("an unsigned byte", unsigned == Ok(0x85))?;

    let enabled = PLIC + 0x2080;
    let written = attempt!("c.sw a0, 0(a1)", enabled, 0x8000_0400_usize);
    hold("a word is written", written.is_ok())?;
    let signed = attempt!("c.lw a0, 0(a1)", enabled, 0_usize);
    let unsigned = attempt!("lwu a0, 0(a1)", enabled, 0_usize);
    let same = attempt!("lw a0, 0(a1)", enabled, 0_usize);
    hold(
        "words",
        signed == same && unsigned == signed.map(|word| word as u32 as usize),
    )?;
    hold(
        "a word's bits",
        unsigned.is_ok_and(|word| word & 0x400 != 0),
    )?;
    let cleared = attempt!("sw a0, 0(a1)", enabled, 0_usize);
    hold("a word is cleared", cleared.is_ok())
}

/// What no device takes, and what is no memory.
fn refusals() -> Checked {
    let load = attempt!("lw a0, 0(a1)", UART_MISALIGNED, 0_usize);
    hold("a misaligned load", is_taken_or(load, LOAD_FAULTS))?;
    let store = attempt!("sw zero, 0(a1)", UART_SCRATCH, 0_usize);
    hold("a misaligned store", is_taken_or(store, STORE_FAULTS))?;
    let atomic = attempt!("amoadd.w a0, zero, (a1)", PLIC + 4, 0_usize);
    let is_fault = |trap: &Trap| trap.cause == STORE_FAULTS[1] && trap.value == PLIC + 4;
    hold(
        "an atomic access",
        atomic.as_ref().err().is_none_or(is_fault),
    )?;
    let fetch = attempt!("jalr ra, 0(a1)", UART_SCRATCH - 7, 0_usize);
    let fault = Trap {
        cause: FETCH_ACCESS_FAULT,
        value: UART_SCRATCH - 7,
    };
    // QEMU executes what it reads there, which ends by another trap.
    let is_refused = fetch == Err(fault) || (fetch.is_err() && !checks::is_axhive());
    hold("instructions in a device", is_refused)
}

/// QEMU takes misaligned words as if they were two aligned ones.
fn is_taken_or(result: Result<usize, Trap>, faults: [usize; 2]) -> bool {
    result.err().is_none_or(|trap| faults.contains(&trap.cause))
}

fn read(address: usize) -> u32 {
    // SAFETY: these are registers of the machine's devices.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: as above; no device writes to memory.
    unsafe { (address as *mut u32).write_volatile(value) }
}

fn clock_ns() -> u64 {
    let low = read(RTC);
    u64::from(read(RTC + 4)) << 32 | u64::from(low)
}

/// Sleeps until the clock's alarm wakes this hart by the PLIC.
fn alarm(hart: usize) -> Checked {
    let context = 2 * hart + 1;
    let (enables, control) = (
        PLIC + 0x2000 + 0x80 * context,
        PLIC + 0x20_0000 + 0x1000 * context,
    );
    write(PLIC + 4 * RTC_SOURCE as usize, 1);
    write(enables, 1 << RTC_SOURCE);
    write(control, 0);
    let at_ns = clock_ns() + ALARM_NS;
    write(RTC + 0x10, 1);
    write(RTC + 0xc, (at_ns >> 32) as u32);
    write(RTC + 8, at_ns as u32);
    // On a machine that stood still meanwhile it has rung already.
    let is_set = read(RTC + 0x18) == 1 || clock_ns() >= at_ns;
    hold("an alarm that is set", is_set)?;
    let source = sleep_until_claimed(control + 4)?;
    hold("an alarm in time", clock_ns() >= at_ns)?;
    hold("the alarm's interrupt", source == RTC_SOURCE)?;
    hold("an alarm that rang once", read(RTC + 0x18) == 0)?;
    write(RTC + 0x1c, 1);
    write(control + 4, RTC_SOURCE);
    hold("a quiet clock", read(control + 4) == 0)?;
    write(RTC + 0x10, 0);
    write(enables, 0);
    Ok(())
}

/// Sleeps until an external interrupt comes; returns what the PLIC gives out.
///
/// It is asked, as QEMU 7.2 does not show a guest's interrupt in sip.
fn sleep_until_claimed(claim: usize) -> Result<u32, Failure> {
    let begin = rt::wait::now_ns();
    while rt::wait::now_ns().saturating_sub(begin) < PATIENCE_NS {
        // SAFETY: interrupts are masked, so that nothing happens but a wait.
        unsafe { asm!("csrw sie, {0}", "wfi", in(reg) EXTERNAL) };
        match read(claim) {
            0 => {}
            source => return Ok(source),
        }
    }
    Err(Failure("an alarm"))
}
