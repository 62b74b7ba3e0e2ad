// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Fetching instructions where there is no memory.
//!
//! A map of our own makes the devices executable for as long as it takes.
//! Emulators may execute a device's registers; they are no instructions then.
//!
//! Spec: Arm Architecture Reference Manual, ESR_EL1, "ISS encoding for an
//! exception from an Instruction Abort".

use core::arch::asm;

use rt::arch::entry::MAPPED_GIB;
use rt::arch::trap::NOTHING_HERE;
use rt::machine::Failure;
use rt::say;

use crate::execute::{Registers, execute, word};
use rt::check::{Checked, hold, same};

const UART: u64 = 0x0900_0000;
const EC_UNKNOWN: usize = 0;
const EC_FETCH_ABORT: usize = 0x21;
const EXTERNAL_ABORT: usize = 0x10;
const NEVER_EXECUTE: u64 = 3 << 53;

/// A map of the first level, as `rt` has it.
#[repr(C, align(512))]
pub struct Table(pub [u64; MAPPED_GIB]);

impl Table {
    /// Copies the map at an address, which is `rt`'s.
    pub fn at(address: u64) -> Self {
        // SAFETY: `rt`'s map is this, at the address of its register.
        Self(unsafe { (address as *const [u64; MAPPED_GIB]).read() })
    }
}

/// Runs the checks with a map in which devices are executable.
// Not inlined, as the map would stay on the stack for the other checks.
#[inline(never)]
pub fn run() -> Checked {
    let ours = map();
    let mut table = Table::at(ours);
    table.0[0] &= !NEVER_EXECUTE;
    change_map((&raw const table).addr() as u64);
    let checked = fetches();
    change_map(ours);
    checked
}

/// Returns where the map is.
pub fn map() -> u64 {
    let map: u64;
    // SAFETY: only reads where the map is.
    unsafe { asm!("mrs {}, ttbr0_el1", out(reg) map) };
    map
}

/// Makes another map the one in force.
pub fn change_map(table: u64) {
    // SAFETY: both maps map the same memory in the same way.
    unsafe {
        asm!(
            "dsb ish",
            "msr ttbr0_el1, {}",
            "isb",
            "tlbi vmalle1",
            "dsb ish",
            "isb",
            in(reg) table
        );
    }
}

fn fetches() -> Checked {
    let what = "a fetch of nothing";
    let fault = fetch(NOTHING_HERE as u64).ok_or(Failure(what))?;
    same(what, fault.code >> 26, EC_FETCH_ABORT)?;
    same(what, fault.code & 0x3f, EXTERNAL_ABORT)?;
    same(what, fault.address, NOTHING_HERE)?;
    same(what, fault.pc, NOTHING_HERE)?;
    let what = "a fetch from a device";
    let fault = fetch(UART).ok_or(Failure(what))?;
    same(what, fault.pc as u64, UART)?;
    let is_abort = fault.code >> 26 == EC_FETCH_ABORT && fault.code & 0x3f == EXTERNAL_ABORT;
    hold(what, is_abort || fault.code >> 26 == EC_UNKNOWN)?;
    say!("fetches passed");
    Ok(())
}

fn fetch(address: u64) -> Option<rt::arch::trap::Fault> {
    let mut registers = Registers::default();
    registers.x[0] = address;
    execute(word!("br x0"), &mut registers)
}
