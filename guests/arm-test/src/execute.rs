// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Executes one instruction with chosen registers, and tells what came of it.
//!
//! The instruction is written into a slot between the code that loads the
//! registers and the code that stores them; a fault of it is caught. x27 and x28
//! belong to that code, and x8 to x18 are not kept.
//!
//! Called on the boot CPU with interrupts masked.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use rt::arch::trap::{self, Fault};

/// The registers that an instruction is given, and what it leaves.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// x0 to x7.
    pub x: [u64; 8],
    /// q0 to q3, the low half first.
    pub q: [[u64; 2]; 4],
    /// The stack pointer, or 0 to keep that of the guest.
    pub sp: u64,
}

global_asm!(
    r#"
    .arch_extension simd
    .pushsection .text.execute, "ax"
    .globl  execute_with
execute_with:
    stp     x19, x20, [sp, #-96]!
    stp     x21, x22, [sp, #16]
    stp     x23, x24, [sp, #32]
    stp     x25, x26, [sp, #48]
    stp     x27, x28, [sp, #64]
    stp     x29, x30, [sp, #80]
    mov     x28, x0
    mov     x27, sp
    ldp     q0, q1, [x28, #{q}]
    ldp     q2, q3, [x28, #{q} + 32]
    ldr     x9, [x28, #{sp}]
    cbz     x9, 2f
    mov     sp, x9
2:  ldp     x0, x1, [x28, #0]
    ldp     x2, x3, [x28, #16]
    ldp     x4, x5, [x28, #32]
    ldp     x6, x7, [x28, #48]
    .globl  execute_slot
execute_slot:
    nop
    .globl  execute_resume
execute_resume:
    mov     x9, sp
    mov     sp, x27
    str     x9, [x28, #{sp}]
    stp     x0, x1, [x28, #0]
    stp     x2, x3, [x28, #16]
    stp     x4, x5, [x28, #32]
    stp     x6, x7, [x28, #48]
    stp     q0, q1, [x28, #{q}]
    stp     q2, q3, [x28, #{q} + 32]
    ldp     x29, x30, [sp, #80]
    ldp     x27, x28, [sp, #64]
    ldp     x25, x26, [sp, #48]
    ldp     x23, x24, [sp, #32]
    ldp     x21, x22, [sp, #16]
    ldp     x19, x20, [sp], #96
    ret
    .popsection
    "#,
    q = const offset_of!(Registers, q),
    sp = const offset_of!(Registers, sp),
);

unsafe extern "C" {
    fn execute_with(registers: *mut Registers);
    fn execute_slot();
    fn execute_resume();
}

/// Lets EL1 and EL0 use floating point and, where there are, wide vectors.
pub fn open_float() {
    const SIMD_AND_VECTORS: u64 = 3 << 24 | 3 << 20 | 3 << 16;
    // SAFETY: this guest itself uses neither.
    unsafe { asm!("msr cpacr_el1, {}", "isb", in(reg) SIMD_AND_VECTORS) };
}

/// Returns where the instruction is executed.
pub fn slot() -> usize {
    execute_slot as *const () as usize
}

/// Executes an instruction and returns its fault, if it had one.
pub fn execute(word: u32, registers: &mut Registers) -> Option<Fault> {
    let slot = execute_slot as *const () as *mut u32;
    // SAFETY: the slot is one instruction in memory that can be written.
    unsafe { slot.write_volatile(word) };
    // SAFETY: makes the CPU fetch what was written.
    unsafe {
        asm!(
            "dc cvau, {slot}",
            "dsb ish",
            "ic ivau, {slot}",
            "dsb ish",
            "isb",
            slot = in(reg) slot
        );
    }
    let resume = execute_resume as *const () as usize;
    let registers: *mut Registers = registers;
    // SAFETY: `execute_with` keeps to the calling convention, whatever the
    // checks' instructions do to the registers that it loads.
    trap::catch(resume, || unsafe { execute_with(registers) })
}

/// The encoding of an instruction, written as assembly.
macro_rules! word {
    ($text:literal) => {{
        let word: u32;
        // SAFETY: only reads the word, and does not execute it.
        unsafe {
            core::arch::asm!(
                "ldr {0:w}, 2f",
                "b 3f",
                ".arch armv8.5-a+simd+sve+rng+memtag",
                concat!("2: ", $text),
                "3:",
                out(reg) word,
            );
        }
        word
    }};
}
pub(crate) use word;
