// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Model-specific registers and ports: all of them, known or not.
//!
//! Spec: Intel SDM 4; AMD64 APM 2, "MSR Cross-Reference"; APM 3, IN, OUT.

use rt::check::{Checked, hold, same};
use rt::{machine::Failure, say};

use crate::execute::{PROTECTION, RAX, RCX, RDX, Registers, Trap, Who, execute};

const RDMSR: [u8; 2] = [0x0f, 0x32];
const WRMSR: [u8; 2] = [0x0f, 0x30];
/// Of each range that processors have, and two where nothing is.
const RANGES: [(u64, u64); 5] = [
    (0, 0x2000),
    (0xc000_0000, 0x2000),
    (0xc001_0000, 0x2000),
    (0x4000_0000, 0x200),
    (0xffff_ff00, 0x100),
];
/// What must not be written even with what it has: interrupt commands.
const COMMANDS: [u64; 2] = [0x830, 0x83f];

/// Ports that do something to the machine, or print.
const BUSY_PORTS: [(u16, u16); 12] = [
    (0x20, 0x21),
    (0x40, 0x43),
    (0x60, 0x64),
    (0x70, 0x77),
    (0x92, 0x92),
    (0xa0, 0xa1),
    (0xb2, 0xb3),
    (0xf4, 0xf7),
    SERIAL,
    (0x4d0, 0x4d1),
    (0x600, 0x67f),
    (0xcf8, 0xcff),
];
const SERIAL: (u16, u16) = (0x3f8, 0x3ff);
const NOTHING: u16 = 0x2f0;

/// Runs all of them.
pub fn run() -> Checked {
    numbers()?;
    say!("model-specific registers passed");
    inputs()?;
    outputs()?;
    same("a port without device", input(&[0xec], NOTHING)?, 0xff)?;
    same(
        "a port without device",
        input(&[0xed], NOTHING)?,
        0xffff_ffff,
    )?;
    say!("ports passed");
    Ok(())
}

/// Each register is there or refused, to be read and to be written with what it has.
fn numbers() -> Checked {
    let mut known = 0;
    for (first, count) in RANGES {
        for number in first..first + count {
            let mut registers = Registers::default();
            registers.gprs[RCX] = number;
            let found = execute(&RDMSR, Who::Kernel, &mut registers);
            allowed(number, found)?;
            if found.is_some() || COMMANDS.contains(&number) {
                continue;
            }
            known += 1;
            allowed(number, execute(&WRMSR, Who::Kernel, &mut registers))?;
        }
    }
    let mut registers = Registers::default();
    let found = execute(&RDMSR, Who::Program, &mut registers);
    hold(
        "a program reads none",
        found.is_some_and(|trap| trap.vector == PROTECTION),
    )?;
    hold("some are there", known > 20)
}

fn allowed(number: u64, found: Option<Trap>) -> Checked {
    match found {
        None => Ok(()),
        Some(trap) if trap.vector == PROTECTION && trap.error == 0 => Ok(()),
        Some(trap) => {
            say!("MSR {number:#x}: {trap:x?}");
            Err(Failure("a model-specific register"))
        }
    }
}

/// Executes IN or OUT; returns RAX.
fn input(bytes: &[u8], port: u16) -> Result<u64, Failure> {
    let mut registers = Registers::default();
    registers.gprs[RDX] = port.into();
    match execute(bytes, Who::Kernel, &mut registers) {
        None => Ok(registers.gprs[RAX]),
        Some(trap) => {
            say!("port {port:#x}: {trap:x?}");
            Err(Failure("a port"))
        }
    }
}

/// Those of each device, and some of those where nothing is.
fn ports() -> impl Iterator<Item = u16> {
    let behind = (0x1000..=0xffff).step_by(61);
    (0..0x1000).chain(behind).chain([0xfffd, 0xfffe, 0xffff])
}

/// Tells whether an access reaches one of some ports.
fn touches(port: u16, bytes: u16, (first, last): (u16, u16)) -> bool {
    port.saturating_add(bytes - 1) >= first && port <= last
}

/// Every port can be read in every width.
fn inputs() -> Checked {
    const FORMS: [(u16, &[u8]); 3] = [(1, &[0xec]), (2, &[0x66, 0xed]), (4, &[0xed])];
    for port in ports() {
        for (bytes, form) in FORMS {
            // A bare QEMU ends for it.
            if bytes == 1 || !touches(port, bytes, SERIAL) {
                input(form, port)?;
            }
        }
    }
    Ok(())
}

fn outputs() -> Checked {
    const FORMS: [&[u8]; 3] = [&[0xee], &[0x66, 0xef], &[0xef]];
    for port in ports() {
        if BUSY_PORTS.iter().any(|busy| touches(port, 4, *busy)) {
            continue;
        }
        for form in FORMS {
            input(form, port)?;
        }
    }
    Ok(())
}
