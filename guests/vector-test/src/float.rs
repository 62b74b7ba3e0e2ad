// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The hart's floating-point registers as a pattern that only it would leave there.
//!
//! This program computes with none, so what is filled stays until this file looks
//! at it.
//!
//! Spec: RISC-V Unprivileged, "D" extension.

use core::arch::asm;

/// sstatus.FS.
const FS: u64 = 3 << 13;
const REGISTERS: usize = 32;
/// fcsr: a rounding mode and flags, other ones for each hart.
const FLAGS: u64 = 0x1f;

type Registers = [u64; REGISTERS];

fn pattern(hart: usize) -> Registers {
    core::array::from_fn(|i| (i as u64 + 1).wrapping_mul(0x0123_4567_89ab_cdef) ^ hart as u64)
}

fn control(hart: usize) -> u64 {
    (hart as u64 * 7 + 1) & FLAGS
}

/// Executes one instruction on each register and eight bytes of a1.
macro_rules! on_each {
    ($instruction:literal, $($operands:tt)*) => {
        asm!(
            ".option push",
            ".option arch, +d",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            concat!($instruction, " f\\n, 8*\\n(a1)"),
            ".endr",
            ".irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            concat!($instruction, " f\\n, 8*\\n(a1)"),
            ".endr",
            ".option pop",
            $($operands)*
        )
    };
}

/// Fills the registers with the pattern of a hart.
pub fn fill(hart: usize) {
    let registers = pattern(hart);
    // SAFETY: nothing of this program is in these registers.
    unsafe { asm!("csrs sstatus, {}", "csrw 0x003, {}", in(reg) FS, in(reg) control(hart)) };
    // SAFETY: as above.
    unsafe { on_each!("fld", in("a1") registers.as_ptr()) };
}

/// Tells whether the registers hold the pattern of a hart.
pub fn holds(hart: usize) -> bool {
    let mut registers = [0; REGISTERS];
    let flags: u64;
    // SAFETY: floating point is on since `fill`, and there is room for all.
    unsafe { on_each!("fsd", in("a1") registers.as_mut_ptr()) };
    // SAFETY: reading the flags has no effect.
    unsafe { asm!("csrr {}, 0x003", out(reg) flags) };
    registers == pattern(hart) && flags == control(hart)
}
