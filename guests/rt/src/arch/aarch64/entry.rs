// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Image header, first instructions of each CPU, and which CPU this is.
//!
//! The boot CPU is entered with x0 = device tree, or 0 when loaded as an ELF
//! file; the others by PSCI with x0 = CPU index. The MMU is off, and nothing is
//! written before it is on, so that no cache has to be cleaned. TPIDR_EL1 holds
//! the CPU's index.
//!
//! Spec: Linux, "Booting AArch64 Linux"; Arm ARM, "VMSAv8-64 translation table
//! format descriptors", SCTLR_EL1, TCR_EL1, MAIR_EL1, HCR_EL2.

use core::arch::{asm, global_asm};

use super::{console, machine, trap};
use crate::cpu::{STACK_BYTES, STACKS};

// Attribute 0: device, nGnRE. Attribute 1: normal, write-back.
const MAIR: u64 = 0xff04;
// 36 bits of addresses, 4 KiB granule, inner shareable, write-back walks, no TTBR1.
const TCR: u64 = 28 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23;
// The bits that are one in Armv8.0, and I, C and M.
const SCTLR: u64 = 0x30d0_0800 | 1 << 12 | 1 << 2 | 1;

const BLOCK: u64 = 1;
const NORMAL: u64 = 1 << 2;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const NEVER_EXECUTE: u64 = 3 << 53;
/// How many GiB are mapped: all that 36 bits can name, by a table of 512 bytes.
pub const MAPPED_GIB: usize = 64;

#[repr(C, align(512))]
struct Table([u64; MAPPED_GIB]);

static IDENTITY: Table = Table(identity());

#[expect(clippy::indexing_slicing, reason = "checked when it is compiled")]
const fn identity() -> [u64; MAPPED_GIB] {
    let mut table = [0; MAPPED_GIB];
    table[0] = BLOCK | ACCESSED | NEVER_EXECUTE;
    let mut gib = 1;
    while gib < MAPPED_GIB {
        table[gib] = (gib as u64) << 30 | BLOCK | ACCESSED | NORMAL | INNER_SHAREABLE;
        gib += 1;
    }
    table
}

global_asm!(
    r#"
    .pushsection .text.entry, "ax"
    .globl _start
_start:
    b       boot_entry              // code0
    .word   0                       // code1
    .quad   0x200000                // text_offset
    .quad   __image_size            // image_size
    .quad   2                       // flags: little endian, 4 KiB pages
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"               // magic
    .word   0

boot_entry:
    mov     x19, x0
    bl      to_el1
    bl      enable_mmu
    adrp    x1, __bss_start         // page-aligned, as is its end
    adrp    x2, __bss_end
1:  stp     xzr, xzr, [x1], #16
    cmp     x1, x2
    b.lo    1b
    mov     x0, #0
    bl      take_stack
    mov     x0, x19
    bl      {boot}

    .globl  secondary_entry
secondary_entry:
    mov     x19, x0
    bl      to_el1
    bl      enable_mmu
    mov     x0, x19
    bl      take_stack
    mov     x0, x19
    bl      {secondary}

take_stack:                         // sp = stacks + (x0 + 1) * size
    msr     tpidr_el1, x0
    add     x0, x0, #1
    mov     x1, #{stack_bytes}
    adrp    x2, {stacks}
    add     x2, x2, :lo12:{stacks}
    madd    x0, x0, x1, x2
    mov     sp, x0
    ret

to_el1:
    msr     daifset, #0xf
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    1f
    mov     x1, #(1 << 31)          // HCR_EL2: EL1 is AArch64, nothing is trapped
    msr     hcr_el2, x1
    isb
    mov     x1, #3                  // CNTHCTL_EL2: EL1 may use counter and timer
    msr     cnthctl_el2, x1
    msr     cntvoff_el2, xzr
    mrs     x1, midr_el1
    msr     vpidr_el2, x1
    mrs     x1, mpidr_el1
    msr     vmpidr_el2, x1
    mrs     x1, id_aa64pfr0_el1
    ubfx    x1, x1, #24, #4         // GIC system registers?
    cbz     x1, 2f
    mov     x1, #9                  // ICC_SRE_EL2: SRE, and EL1 may use it
    msr     icc_sre_el2, x1
2:  ldr     x1, ={sctlr_off}
    msr     sctlr_el1, x1
    mov     x1, #0x3c5              // EL1h, all masked
    msr     spsr_el2, x1
    msr     elr_el2, x30
    eret
1:  ret

enable_mmu:
    ldr     x1, ={mair}
    msr     mair_el1, x1
    ldr     x1, ={tcr}
    mrs     x2, id_aa64mmfr0_el1    // physical address size, up to 48 bits
    and     x2, x2, #7
    mov     x3, #5
    cmp     x2, x3
    csel    x2, x2, x3, lo
    orr     x1, x1, x2, lsl #32
    msr     tcr_el1, x1
    adrp    x1, {identity}
    add     x1, x1, :lo12:{identity}
    msr     ttbr0_el1, x1
    isb
    tlbi    vmalle1
    ic      iallu
    dsb     sy
    isb
    ldr     x1, ={sctlr}
    msr     sctlr_el1, x1
    isb
    ret
    .ltorg
    .popsection
    "#,
    boot = sym boot,
    secondary = sym secondary,
    stacks = sym STACKS,
    identity = sym IDENTITY,
    stack_bytes = const STACK_BYTES,
    mair = const MAIR,
    tcr = const TCR,
    sctlr = const SCTLR,
    sctlr_off = const 0x30d0_0800_u64,
);

extern "C" fn boot(device_tree: usize) -> ! {
    trap::init();
    console::init();
    crate::boot(machine::discover(device_tree))
}

extern "C" fn secondary(index: usize) -> ! {
    trap::init();
    (crate::guest().secondary)(index)
}

/// Returns the index of the CPU that asks.
pub fn cpu_index() -> usize {
    let index: usize;
    // SAFETY: only copies a register.
    unsafe { asm!("mrs {}, tpidr_el1", out(reg) index, options(nomem, nostack)) };
    index
}
