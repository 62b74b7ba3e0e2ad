// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Every opcode, and random ones, as a program without privileges.
//!
//! Whatever comes of them is right as long as it comes to this program: an end, an
//! exception, or the timer. They are given addresses of RAM, of nothing, and of the
//! kernel. Left out are the maps of vector instructions, on some of which QEMU's
//! emulation itself ends.
//!
//! Spec: AMD64 APM 3, "Opcode and Operand Encodings".

use rt::check::{Checked, hold};
use rt::say;

use crate::execute::{DATA, NOTHING, RAX, RBX, RCX, RDI, RDX, RSI, Registers, Who, execute};
use crate::random;

const KERNEL: u64 = 0x10_0000;
const PREFIXES: [&[u8]; 4] = [&[], &[0x66], &[0xf3], &[0x48]];
const MAPS: [&[u8]; 2] = [&[], &[0x0f]];
/// The first bytes of the other maps, or their second ones.
const LEFT_OUT: [u8; 4] = [0x38, 0x3a, 0xc4, 0xc5];
const NOP: u8 = 0x90;
/// `[rbx]` with three registers or extensions, and a register alone.
const OPERANDS: [u8; 4] = [0x03, 0x23, 0x3b, 0xc3];
const RANDOM: u32 = 4000;
const LENGTH: usize = 15;

/// Runs all of them.
pub fn run() -> Checked {
    let mut ends = 0_u32;
    for prefix in PREFIXES {
        for map in MAPS {
            for opcode in 0..=0xff_u8 {
                for operand in OPERANDS {
                    ends += u32::from(try_opcode(prefix, map, opcode, operand));
                }
            }
        }
    }
    hold("many opcodes have an end", ends > 2000)?;
    say!("opcodes passed: {ends} came to their end");
    random();
    say!("random code passed");
    Ok(())
}

fn try_opcode(prefix: &[u8], map: &[u8], opcode: u8, operand: u8) -> bool {
    if LEFT_OUT.contains(&opcode) {
        return false;
    }
    let mut code = [0; LENGTH];
    let bytes = prefix.iter().chain(map).copied().chain([opcode, operand]);
    code.iter_mut()
        .zip(bytes)
        .for_each(|(slot, byte)| *slot = byte);
    let target = match operand {
        0x23 => NOTHING,
        0x3b => KERNEL,
        _ => DATA,
    };
    execute(&code, Who::Stray, &mut at(target)).is_none()
}

fn at(target: u64) -> Registers {
    let mut registers = Registers::default();
    registers.gprs[RAX] = target;
    registers.gprs[RCX] = 3;
    registers.gprs[RDX] = 0x2f0;
    for pointer in [RBX, RSI, RDI] {
        registers.gprs[pointer] = target;
    }
    registers
}

/// Code and registers of which nobody thought before.
fn random() {
    let mut next = random::numbers();
    for round in 0..RANDOM {
        let mut code = [0; LENGTH];
        let words = [next(), next()].map(u64::to_le_bytes);
        let bytes = words.as_flattened().iter();
        for (slot, byte) in code.iter_mut().zip(bytes) {
            *slot = if LEFT_OUT.contains(byte) { NOP } else { *byte };
        }
        let target = [DATA, NOTHING, NOTHING + 0xffd, KERNEL][round as usize % 4];
        let mut registers = at(target);
        registers.gprs[RCX] = next();
        // Strings go up and down.
        registers.flags = next() & 1 << 10;
        execute(&code, Who::Stray, &mut registers);
    }
}
