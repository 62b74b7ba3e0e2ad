// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The hart's vector registers as a pattern that only it would leave there.
//!
//! The compiler uses no vectors for this target, so what is filled stays until
//! this file looks at it.
//!
//! Spec: RISC-V Unprivileged, "V" extension.

use core::arch::asm;

/// sstatus.VS.
const VS: u64 = 3 << 9;
/// The bytes of all registers of the only kind that this looks at.
const BYTES: usize = 32 * 16;
/// vtype: elements of 16 bits, two registers as one, tail and mask as they like.
const KIND: u64 = 0b1100_1001;
/// vcsr: round to nearest even; no saturation.
const FIXED_POINT: u64 = 0b010;

type Registers = [u8; BYTES];

/// Switches vectors on, and tells whether they are of the kind that this looks at.
pub fn switch_on() -> bool {
    // SAFETY: sstatus.VS changes whether vector instructions work, nothing else.
    unsafe { asm!("csrs sstatus, {0}", in(reg) VS) };
    32 * register_bytes() == BYTES
}

/// Returns the bytes of one register.
fn register_bytes() -> usize {
    let bytes: usize;
    // SAFETY: reading a length has no effect.
    unsafe { asm!("csrr {}, 0xc22", out(reg) bytes) };
    bytes
}

/// Returns how many elements of [`KIND`] a hart of this number works on.
fn length(hart: usize) -> u64 {
    hart as u64 % 8 + 1
}

fn pattern(hart: usize) -> Registers {
    core::array::from_fn(|i| (i as u8).wrapping_mul(31) ^ (hart as u8).wrapping_mul(89) ^ 0x5a)
}

/// Fills the registers with the pattern of a hart.
pub fn fill(hart: usize) {
    let registers = pattern(hart);
    // SAFETY: vectors are on, and there are as many bytes as registers hold.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +v",
            "vl8re8.v v0, ({at})",
            "add {at}, {at}, {step}",
            "vl8re8.v v8, ({at})",
            "add {at}, {at}, {step}",
            "vl8re8.v v16, ({at})",
            "add {at}, {at}, {step}",
            "vl8re8.v v24, ({at})",
            "vsetvl zero, {length}, {kind}",
            "csrw 0x00f, {fixed_point}",
            ".option pop",
            at = inout(reg) registers.as_ptr() => _,
            step = in(reg) 8 * register_bytes(),
            length = in(reg) length(hart),
            kind = in(reg) KIND,
            fixed_point = in(reg) FIXED_POINT,
        );
    }
}

fn read() -> Registers {
    let mut registers = [0; BYTES];
    // SAFETY: as for `fill`.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +v",
            "vs8r.v v0, ({at})",
            "add {at}, {at}, {step}",
            "vs8r.v v8, ({at})",
            "add {at}, {at}, {step}",
            "vs8r.v v16, ({at})",
            "add {at}, {at}, {step}",
            "vs8r.v v24, ({at})",
            ".option pop",
            at = inout(reg) registers.as_mut_ptr() => _,
            step = in(reg) 8 * register_bytes(),
        );
    }
    registers
}

/// Returns vl, vtype and vcsr.
fn control() -> [u64; 3] {
    let (length, kind, fixed_point): (u64, u64, u64);
    // SAFETY: reading these has no effect.
    unsafe {
        asm!(
            "csrr {}, 0xc20",
            "csrr {}, 0xc21",
            "csrr {}, 0x00f",
            out(reg) length,
            out(reg) kind,
            out(reg) fixed_point,
        );
    }
    [length, kind, fixed_point]
}

/// Tells whether the registers hold the pattern of a hart.
pub fn holds(hart: usize) -> bool {
    control() == [length(hart), KIND, FIXED_POINT] && read() == pattern(hart)
}

/// Tells whether nothing is in the registers.
pub fn is_zero() -> bool {
    read().iter().all(|byte| *byte == 0)
}
