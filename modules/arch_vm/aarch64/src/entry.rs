// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Everything that must be assembly: the world switch, floating-point registers.
//!
//! [`enter`] stores the host's callee-saved registers on its stack, loads the
//! guest's from its frame and leaves by ERET. An exception of the guest comes to
//! the vectors inside [`enter`], which store what a function may destroy and let
//! `fast` finish it; what that does not finish returns from [`enter`]. The vectors
//! are in force only in between, with interrupts closed; an exception of the
//! hypervisor itself meanwhile is a defect, and is taken again by the host's own
//! vectors, which report it.
//!
//! Spec: Arm Architecture Reference Manual, "Exception vectors".

use core::{
    arch::{asm, global_asm, naked_asm},
    sync::atomic::{AtomicU64, Ordering},
};

use axvm::AxVMHal;
use tock_registers::interfaces::Readable;

use crate::{
    fast::{self, Left},
    frame::{FloatRegisters, TrapFrame},
    regs::VBAR_EL2,
    vcpu::Aarch64VCpu,
};

/// Where the host's own vectors are.
static HOST_VECTORS: AtomicU64 = AtomicU64::new(0);

/// Runs the guest until an exception comes that `fast` does not finish.
///
/// # Safety
///
/// 1. `vcpu` is valid, and nobody else uses it.
/// 2. The guest's registers and stage 2 are loaded on this CPU.
/// 3. Interrupts are closed.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn enter<H: AxVMHal>(vcpu: *mut Aarch64VCpu<H>) -> Left {
    naked_asm!(
        include_str!("entry.S"),
        pc = const TrapFrame::PC,
        host_sp = const TrapFrame::HOST_SP,
        fiq = const Left::FIQ.0,
        error = const Left::ERROR.0,
        answer = sym fast::answer::<H>,
        finish = sym fast::finish::<H>,
        finish_interrupt = sym fast::finish_interrupt::<H>,
        host_vectors = sym HOST_VECTORS,
    )
}

global_asm!(
    r#"
    .pushsection .text.aarch64_float, "ax"
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
    "#
);

unsafe extern "C" {
    fn aarch64_float_store(to: *mut FloatRegisters);
    fn aarch64_float_load(from: *const FloatRegisters);
}

/// Remembers the vectors that are in force now as the host's.
pub(crate) fn remember_host_vectors() {
    HOST_VECTORS.store(VBAR_EL2.get(), Ordering::Release);
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
