// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The world switch: the only assembly that a guest runs between.
//!
//! [`enter`] stores the host's callee-saved registers on its stack, loads the
//! guest's from its frame and leaves by ERET; an exception of the guest comes to
//! [`vectors`], which store the guest's registers and return from [`enter`].
//! SP_EL2 is untouched by guests, so that the frame's address waits on the
//! stack. The vectors are in force only from `run`'s start to its end, with
//! interrupts closed; an exception of the hypervisor itself in between is a
//! defect, and is taken again by the host's own vectors, which report it.
//!
//! Spec: Arm Architecture Reference Manual, "Exception vectors".

use core::{
    arch::{asm, global_asm},
    sync::atomic::{AtomicU64, Ordering},
};

use tock_registers::interfaces::Readable;

use crate::{
    frame::{FloatRegisters, TrapFrame},
    regs::VBAR_EL2,
};

/// Where the host's own vectors are.
static HOST_VECTORS: AtomicU64 = AtomicU64::new(0);

global_asm!(
    r#"
    .macro GUEST_LEFT kind
    .p2align 7
    stp     x0, x1, [sp, #-16]!
    mov     x1, #\kind
    b       2f
    .endm

    .macro HOST_FAILED
    .p2align 7
    b       3f
    .endm

    .pushsection .text.aarch64_guest, "ax"
    .p2align 11
    .globl  aarch64_guest_vectors
aarch64_guest_vectors:
    HOST_FAILED                     // current EL, SP_EL0
    HOST_FAILED
    HOST_FAILED
    HOST_FAILED
    HOST_FAILED                     // current EL, SP_EL2
    HOST_FAILED
    HOST_FAILED
    HOST_FAILED
    GUEST_LEFT 0                    // lower EL, AArch64
    GUEST_LEFT 1
    GUEST_LEFT 2
    GUEST_LEFT 3
    GUEST_LEFT 0                    // lower EL, AArch32
    GUEST_LEFT 1
    GUEST_LEFT 2
    GUEST_LEFT 3

    .p2align 7
2:  ldr     x0, [sp, #16]           // the frame
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    ldp     x2, x3, [sp], #16
    stp     x2, x3, [x0]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x30, x2, [x0, #240]
    str     x3, [x0, #256]
    mov     x0, x1
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp, #96]
    add     sp, sp, #112
    ret

3:  stp     x0, x1, [sp, #-16]!
    adrp    x0, {host_vectors}
    ldr     x0, [x0, :lo12:{host_vectors}]
    msr     vbar_el2, x0
    isb
    ldp     x0, x1, [sp], #16
    eret

    .globl  aarch64_guest_enter
aarch64_guest_enter:
    sub     sp, sp, #112
    str     x0, [sp]
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    stp     x29, x30, [sp, #96]
    ldp     x30, x2, [x0, #240]
    ldr     x3, [x0, #256]
    msr     elr_el2, x2
    msr     spsr_el2, x3
    ldp     x2, x3, [x0, #16]
    ldp     x4, x5, [x0, #32]
    ldp     x6, x7, [x0, #48]
    ldp     x8, x9, [x0, #64]
    ldp     x10, x11, [x0, #80]
    ldp     x12, x13, [x0, #96]
    ldp     x14, x15, [x0, #112]
    ldp     x16, x17, [x0, #128]
    ldp     x18, x19, [x0, #144]
    ldp     x20, x21, [x0, #160]
    ldp     x22, x23, [x0, #176]
    ldp     x24, x25, [x0, #192]
    ldp     x26, x27, [x0, #208]
    ldp     x28, x29, [x0, #224]
    ldp     x0, x1, [x0]
    eret
    dsb     nsh                     // nothing is speculated behind it
    isb

    .arch_extension simd
    .macro EACH_PAIR op
    \op     q0, q1, [x0]
    \op     q2, q3, [x0, #32]
    \op     q4, q5, [x0, #64]
    \op     q6, q7, [x0, #96]
    \op     q8, q9, [x0, #128]
    \op     q10, q11, [x0, #160]
    \op     q12, q13, [x0, #192]
    \op     q14, q15, [x0, #224]
    \op     q16, q17, [x0, #256]
    \op     q18, q19, [x0, #288]
    \op     q20, q21, [x0, #320]
    \op     q22, q23, [x0, #352]
    \op     q24, q25, [x0, #384]
    \op     q26, q27, [x0, #416]
    \op     q28, q29, [x0, #448]
    \op     q30, q31, [x0, #480]
    .endm

    .globl  aarch64_float_store
aarch64_float_store:
    EACH_PAIR stp
    mrs     x1, fpcr
    mrs     x2, fpsr
    str     x1, [x0, #512]
    str     x2, [x0, #520]
    ret

    .globl  aarch64_float_load
aarch64_float_load:
    EACH_PAIR ldp
    ldr     x1, [x0, #512]
    ldr     x2, [x0, #520]
    msr     fpcr, x1
    msr     fpsr, x2
    ret
    .arch_extension nosimd
    .popsection
    "#,
    host_vectors = sym HOST_VECTORS,
);

unsafe extern "C" {
    static aarch64_guest_vectors: u8;
    fn aarch64_guest_enter(frame: *mut TrapFrame) -> u64;
    fn aarch64_float_store(to: *mut FloatRegisters);
    fn aarch64_float_load(from: *const FloatRegisters);
}

/// Remembers the vectors that are in force now as the host's.
pub(crate) fn remember_host_vectors() {
    HOST_VECTORS.store(VBAR_EL2.get(), Ordering::Release);
}

/// Returns where the host's vectors are.
pub(crate) fn host_vectors() -> u64 {
    HOST_VECTORS.load(Ordering::Acquire)
}

/// Returns where the vectors are that guests leave by.
pub(crate) fn vectors() -> u64 {
    (&raw const aarch64_guest_vectors).addr() as u64
}

/// Runs the guest until its next exception and returns which kind it is:
/// 0 synchronous, 1 IRQ, 2 FIQ, 3 `SError`.
///
/// # Safety
///
/// 1. The guest's registers, stage 2 and [`vectors`] are loaded on this CPU.
/// 2. Interrupts are closed.
pub(crate) unsafe fn enter(frame: &mut TrapFrame) -> u64 {
    // SAFETY: 1 and 2 are the caller's; the frame is valid and not shared.
    unsafe { aarch64_guest_enter(frame) }
}

/// Stores the floating-point registers, which do not trap now.
pub(crate) fn store_float(to: &mut FloatRegisters) {
    // SAFETY: the layout is asserted beside the type; the hypervisor itself has
    // no floating point.
    unsafe { aarch64_float_store(to) };
}

/// Loads the floating-point registers, which do not trap now.
pub(crate) fn load_float(from: &FloatRegisters) {
    // SAFETY: as for `store_float`.
    unsafe { aarch64_float_load(from) };
}

/// Closes interrupts and returns what [`restore_interrupts`] needs.
pub(crate) fn close_interrupts() -> u64 {
    let daif: u64;
    // SAFETY: closing interrupts harms nobody.
    unsafe { asm!("mrs {}, daif", "msr daifset, #3", out(reg) daif, options(nostack)) };
    daif
}

/// Makes interrupts what they were.
pub(crate) fn restore_interrupts(daif: u64) {
    // SAFETY: they were so when `close_interrupts` was called.
    unsafe { asm!("msr daif, {}", in(reg) daif, options(nostack)) };
}
