// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! String I/O whose memory faults, at once or on the way.
//!
//! The first 4 GiB are mapped, so that what is behind them faults.
//!
//! Spec: AMD64 APM 3, INS, OUTS, "REP Prefixes"; APM 2, "Page-Fault Error Code".

use rt::check::{Checked, hold, same};
use rt::say;

use crate::execute::{DATA, PAGE_FAULT, RAX, RCX, RDI, RDX, RSI, Registers, Trap, Who, execute};

const PORT: u64 = 0x2f0;
const BEHIND: u64 = 1 << 32;
const WRITE: u64 = 2;

/// Runs all of them.
pub fn run() -> Checked {
    good()?;
    faults("insb", &[0x6c], RDI, WRITE)?;
    faults("rep insd", &[0xf3, 0x6d], RDI, WRITE)?;
    faults("outsb", &[0x6e], RSI, 0)?;
    faults("rep outsd", &[0xf3, 0x6f], RSI, 0)?;
    faults_on_the_way()?;
    none()?;
    say!("string I/O passed");
    Ok(())
}

fn with(count: u64, memory: u64) -> Registers {
    let mut registers = Registers::default();
    registers.gprs[RCX] = count;
    registers.gprs[RDX] = PORT;
    registers.gprs[RSI] = memory;
    registers.gprs[RDI] = memory;
    registers
}

fn good() -> Checked {
    let mut registers = with(9, DATA);
    let found = execute(&[0xf3, 0x6c], Who::Kernel, &mut registers);
    hold("rep insb", found.is_none())?;
    same("its end", registers.gprs[RDI], DATA + 9)?;
    same("its count", registers.gprs[RCX], 0)?;
    let mut registers = with(3, DATA + 8);
    registers.flags = 1 << 10;
    let found = execute(&[0xf3, 0x66, 0x6f], Who::Kernel, &mut registers);
    hold("rep outsw downwards", found.is_none())?;
    same("its end", registers.gprs[RSI], DATA + 2)
}

fn faults(what: &'static str, bytes: &[u8], pointer: usize, error: u64) -> Checked {
    let mut registers = with(5, BEHIND + 0x123);
    let found = execute(bytes, Who::Kernel, &mut registers);
    let expected = Trap {
        vector: PAGE_FAULT,
        error,
        address: BEHIND + 0x123,
    };
    if found != Some(expected) {
        say!("{what}: {found:x?}");
    }
    hold(what, found == Some(expected))?;
    same(what, registers.gprs[pointer], BEHIND + 0x123)?;
    same(what, registers.gprs[RCX], 5)
}

/// Some elements are moved, and the rest can be moved later.
fn faults_on_the_way() -> Checked {
    let mut registers = with(5, BEHIND - 8);
    let found = execute(&[0xf3, 0x6f], Who::Kernel, &mut registers);
    hold(
        "it faults",
        found.is_some_and(|trap| trap.vector == PAGE_FAULT && trap.address == BEHIND),
    )?;
    same("what was moved", registers.gprs[RSI], BEHIND)?;
    same("what is left", registers.gprs[RCX], 3)
}

/// Nothing is moved, and nothing faults.
fn none() -> Checked {
    let mut registers = with(0, BEHIND);
    registers.gprs[RAX] = 0x77;
    for bytes in [&[0xf3, 0x6c][..], &[0xf3, 0x6f]] {
        let found = execute(bytes, Who::Kernel, &mut registers);
        hold(
            "a count of zero",
            found.is_none() && registers.gprs[RSI] == BEHIND,
        )?;
    }
    Ok(())
}
