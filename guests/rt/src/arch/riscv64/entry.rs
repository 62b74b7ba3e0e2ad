// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Image header, first instructions of each hart, and which CPU this is.
//!
//! Entered by firmware with a0 = hart id, a1 = device tree (boot hart) or CPU
//! index (`hart_start`'s opaque value), translation off, interrupts masked.
//! `tp` holds the CPU's index from then on; Rust code never touches it.
//!
//! Spec: Linux, "Boot image header in RISC-V Linux"; SBI, "HSM", "Hart Start".

use core::arch::{asm, global_asm};

use super::{console, machine, trap};
use crate::cpu::{STACK_BYTES, STACKS};
use crate::machine::HardwareId;

global_asm!(
    r#"
    .pushsection .text.entry, "ax"
    .globl _start
    .option push
    .option norvc
_start:
    j       boot_entry              // code0
    .word   0                       // code1
    .quad   0x200000                // text_offset
    .quad   __image_size            // image_size
    .quad   0                       // flags: little endian
    .word   2                       // version 0.2
    .word   0
    .quad   0
    .ascii  "RISCV\0\0\0"           // magic
    .ascii  "RSC\x05"               // magic2
    .word   0
    .option pop

boot_entry:
    csrw    sie, zero
    la      t0, __bss_start
    la      t1, __bss_end
1:  sd      zero, 0(t0)
    addi    t0, t0, 8
    bltu    t0, t1, 1b
    li      tp, 0
    call    take_stack
    call    {boot}

    .globl  secondary_entry
secondary_entry:
    csrw    sie, zero
    mv      tp, a1
    call    take_stack
    mv      a0, tp
    call    {secondary}

take_stack:                         // sp = stacks + (tp + 1) * size
    addi    t0, tp, 1
    slli    t0, t0, {stack_shift}
    la      sp, {stacks}
    add     sp, sp, t0
    li      t0, {fs_initial}        // the target has floating point
    csrs    sstatus, t0
    ret
    .popsection
    "#,
    boot = sym boot,
    secondary = sym secondary,
    stacks = sym STACKS,
    stack_shift = const STACK_BYTES.ilog2(),
    fs_initial = const 1 << 13,
);

extern "C" fn boot(hart: usize, device_tree: usize) -> ! {
    trap::init();
    console::init();
    crate::boot(machine::discover(HardwareId(hart as u64), device_tree))
}

extern "C" fn secondary(index: usize) -> ! {
    trap::init();
    (crate::guest().secondary)(index)
}

/// Returns the index of the CPU that asks.
pub fn cpu_index() -> usize {
    let index: usize;
    // SAFETY: only copies a register.
    unsafe { asm!("mv {}, tp", out(reg) index, options(nomem, nostack)) };
    index
}
