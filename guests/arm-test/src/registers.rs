// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! System registers: what the CPU says it has is there, and nothing else.
//!
//! Every encoding is read; what can be read is written back as it is. Whatever
//! comes of it is a value or an undefined instruction, and the machine goes on.
//!
//! Spec: Arm Architecture Reference Manual, "AArch64 System Register Encoding",
//! "ID_AA64PFR0_EL1" and the like.

use rt::machine::Failure;
use rt::say;

use crate::execute::{Registers, execute, word};
use rt::check::{Checked, hold, same};

/// MRS x0 and MSR x0 without a register.
const MRS: u32 = 0xd520_0000;
const MSR: u32 = 0xd500_0000;
const EC_UNKNOWN: usize = 0;
/// SVE that nobody enabled, or that does not exist.
const EC_SVE: usize = 0x19;
const EC_SYSTEM_REGISTER: usize = 0x18;

/// Runs the checks.
pub fn run() -> Checked {
    identification()?;
    features()?;
    debug_and_counters()?;
    undefined()?;
    every_encoding()
}

/// A register: op0, op1, CRn, CRm, op2.
pub type Id = [u32; 5];

fn encode(base: u32, [op0, op1, crn, crm, op2]: Id) -> u32 {
    base | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

/// Reads a register, if it is there.
fn read(id: Id) -> Option<u64> {
    value_of(encode(MRS, id))
}

fn value_of(word: u32) -> Option<u64> {
    let mut registers = Registers::default();
    match execute(word, &mut registers) {
        None => Some(registers.x[0]),
        Some(_) => None,
    }
}

fn write(id: Id, value: u64) -> bool {
    let mut registers = Registers::default();
    registers.x[0] = value;
    execute(encode(MSR, id), &mut registers).is_none()
}

const PFR0: Id = [3, 0, 0, 4, 0];
const PFR1: Id = [3, 0, 0, 4, 1];
const DFR0: Id = [3, 0, 0, 5, 0];
const ISAR0: Id = [3, 0, 0, 6, 0];
/// ID_AA64ISAR1_EL1.
pub const ISAR1: Id = [3, 0, 0, 6, 1];
const MMFR1: Id = [3, 0, 0, 7, 1];
const MMFR2: Id = [3, 0, 0, 7, 2];

/// Reads a field of four bits.
pub fn field(id: Id, first: u32) -> u64 {
    read(id).map_or(0, |value| value >> first & 0xf)
}

/// Tells whether there are wide vectors.
pub fn has_vectors() -> bool {
    field(PFR0, 32) != 0
}

/// All of them can be read and none written; EL1 is there and EL2 may not be.
fn identification() -> Checked {
    for crm in 1..8 {
        for op2 in 0..8 {
            let id = [3, 0, 0, crm, op2];
            hold("an identification register", read(id).is_some())?;
            hold("an identification register's write", !write(id, 0))?;
        }
    }
    let main = read([3, 0, 0, 0, 0]).ok_or(Failure("MIDR_EL1"))?;
    hold("MIDR_EL1", main >> 16 & 0xf == 0xf)?;
    let affinity = read([3, 0, 0, 0, 5]).ok_or(Failure("MPIDR_EL1"))?;
    hold("MPIDR_EL1", affinity >> 31 & 1 == 1)?;
    hold("EL1 in ID_AA64PFR0_EL1", field(PFR0, 4) != 0)?;
    say!("identification passed");
    Ok(())
}

/// A feature: its field, the least value that has it, and an instruction of it.
struct Feature {
    name: &'static str,
    field: (Id, u32),
    least: u64,
    word: u32,
}

fn mrs(name: &'static str, field: (Id, u32), least: u64, id: Id) -> Feature {
    let word = encode(MRS, id);
    Feature {
        name,
        field,
        least,
        word,
    }
}

/// What is said to be there works, and what is not is undefined.
fn features() -> Checked {
    let instruction = |name, field, word| Feature {
        name,
        field,
        least: 1,
        word,
    };
    for feature in [
        instruction("SVE", (PFR0, 32), word!("rdvl x0, #1")),
        mrs("RNDR", (ISAR0, 60), 1, [3, 3, 2, 4, 0]),
        mrs("RAS", (PFR0, 28), 1, [3, 0, 5, 3, 0]),
        mrs("AMU", (PFR0, 44), 1, [3, 3, 13, 2, 0]),
        mrs("CSV2_2", (PFR0, 56), 2, [3, 0, 13, 0, 7]),
        mrs("MTE2", (PFR1, 8), 2, [3, 0, 1, 0, 6]),
        mrs("SME", (PFR1, 24), 1, [3, 3, 4, 2, 2]),
        mrs("LOR", (MMFR1, 16), 1, [3, 0, 10, 4, 7]),
        mrs("PAN", (MMFR1, 20), 1, [3, 0, 4, 2, 3]),
        mrs("UAO", (MMFR2, 4), 1, [3, 0, 4, 2, 4]),
        mrs("SPE", (DFR0, 32), 1, [3, 0, 9, 10, 7]),
        mrs("trace", (DFR0, 4), 1, [2, 1, 0, 8, 7]),
        mrs("trace filter", (DFR0, 40), 1, [3, 0, 1, 2, 1]),
        mrs("trace buffer", (DFR0, 44), 1, [3, 0, 9, 11, 7]),
        mrs("LS64 accelerator data", (ISAR1, 60), 3, [3, 0, 13, 0, 5]),
    ] {
        let (id, first) = feature.field;
        let is_told = field(id, first) >= feature.least;
        let mut registers = Registers::default();
        let fault = execute(feature.word, &mut registers);
        if fault.is_none() != is_told {
            say!("{}: told {is_told}, {fault:x?}", feature.name);
            return Err(Failure(feature.name));
        }
        if let Some(fault) = fault {
            hold(feature.name, is_undefined(fault.code >> 26))?;
        }
    }
    let has_keys = [(ISAR1, 4), (ISAR1, 8), ([3, 0, 0, 6, 2], 12)];
    let has_keys = has_keys.iter().any(|&(id, first)| field(id, first) != 0);
    let key = read([3, 0, 2, 1, 0]);
    hold("pointer authentication keys", key.is_some() == has_keys)?;
    say!("features passed");
    Ok(())
}

fn is_undefined(class: usize) -> bool {
    [EC_UNKNOWN, EC_SVE, EC_SYSTEM_REGISTER].contains(&class)
}

/// Debug registers are there; counters are not, or are idle.
fn debug_and_counters() -> Checked {
    let os_lock_status = read([2, 0, 1, 1, 4]).ok_or(Failure("OSLSR_EL1"))?;
    hold("OSLSR_EL1", os_lock_status & 9 == 8)?;
    hold("OSLAR_EL1", write([2, 0, 1, 0, 4], 0))?;
    let os_lock_status = read([2, 0, 1, 1, 4]).ok_or(Failure("OSLSR_EL1"))?;
    same("OSLSR_EL1 unlocked", os_lock_status & 2, 0)?;
    hold("MDSCR_EL1", write([2, 0, 0, 2, 2], 0))?;
    let counts = [field(DFR0, 12), field(DFR0, 20)];
    for number in 0..=counts[0] as u32 {
        for op2 in [4, 5] {
            hold("a breakpoint", write([2, 0, 0, number, op2], 0))?;
            same("a breakpoint", read([2, 0, 0, number, op2]).unwrap_or(1), 0)?;
        }
    }
    for number in 0..=counts[1] as u32 {
        for op2 in [6, 7] {
            hold("a watchpoint", write([2, 0, 0, number, op2], 0))?;
        }
    }
    let has_counters = ![0, 0xf].contains(&field(DFR0, 8));
    for id in [
        [3, 3, 9, 12, 0],
        [3, 3, 9, 13, 0],
        [3, 3, 9, 14, 0],
        [3, 3, 14, 8, 0],
        [3, 3, 14, 15, 7],
    ] {
        match read(id) {
            None => hold("a counter that is told of", !has_counters)?,
            Some(value) if !has_counters => same("a counter that is not told of", value, 0)?,
            Some(_) => {}
        }
    }
    say!("debug and counters passed");
    Ok(())
}

/// What EL1 never has.
fn undefined() -> Checked {
    for id in [
        [3, 4, 1, 0, 0],
        [3, 4, 1, 1, 0],
        [3, 5, 1, 0, 0],
        [3, 5, 14, 3, 1],
        [3, 6, 1, 0, 0],
        [3, 4, 12, 11, 1],
    ] {
        hold("a register of EL2 or EL3", read(id).is_none())?;
        hold("a register of EL2 or EL3", !write(id, 0))?;
    }
    say!("undefined registers passed");
    Ok(())
}

/// Registers whose reading or writing means more than their value.
fn is_special(id: Id) -> bool {
    match id {
        // The interrupt controller's: they acknowledge and end.
        [3, 0, 12, ..] => true,
        // Transfer registers of the debugger, and the double lock.
        [2, 0, 1, 3, 4] | [2, 3, ..] => true,
        _ => false,
    }
}

/// Reads all, and writes back what was read.
fn every_encoding() -> Checked {
    let (mut readable, mut writable, mut absent) = (0_u32, 0_u32, 0_u32);
    for number in 0..1_u32 << 15 {
        let id = [
            2 | number >> 14,
            number >> 11 & 7,
            number >> 7 & 15,
            number >> 3 & 15,
            number & 7,
        ];
        if is_special(id) {
            continue;
        }
        match read(id) {
            None => absent += 1,
            Some(value) => {
                readable += 1;
                writable += u32::from(write(id, value));
            }
        }
    }
    say!("{readable} registers can be read, {writable} written, {absent} are absent");
    hold("registers", readable > 100 && absent > 10_000)?;
    say!("registers passed");
    Ok(())
}
