// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The world switch: the only assembly that a guest runs between.
//!
//! [`enter`] keeps the host's callee-saved registers on its stack, loads the
//! guest's general registers from its frame and runs it; behind VMRUN nothing
//! but RAX and RSP is the host's, and they lead to all else. VMLOAD and VMSAVE
//! move the rest: FS and GS, TR and LDTR, and the registers of system calls.
//!
//! The global interrupt flag is off from before VMRUN until the host's state is
//! back, so that neither an NMI nor a machine check meets a guest's GS. IF is
//! set meanwhile, since that is what lets the host's interrupts end the guest's
//! time; it is closed again before they could be taken.
//!
//! Spec: AMD64 APM 2, "VMRUN Instruction", "#VMEXIT", "Global Interrupt Flag".

use core::arch::{asm, global_asm};

use crate::frame::Frame;

global_asm!(
    r#"
    .pushsection .text.svm_enter, "ax"
    .globl  svm_enter
svm_enter:                              // rdi frame, rsi guest's block, rdx host's block
    push    rbx
    push    rbp
    push    r12
    push    r13
    push    r14
    push    r15
    push    rdi
    push    rdx
    mov     rax, rsi
    mov     rcx, [rdi + 8]
    mov     rdx, [rdi + 16]
    mov     rbx, [rdi + 24]
    mov     rbp, [rdi + 40]
    mov     rsi, [rdi + 48]
    mov     r8, [rdi + 64]
    mov     r9, [rdi + 72]
    mov     r10, [rdi + 80]
    mov     r11, [rdi + 88]
    mov     r12, [rdi + 96]
    mov     r13, [rdi + 104]
    mov     r14, [rdi + 112]
    mov     r15, [rdi + 120]
    mov     rdi, [rdi + 56]
    clgi
    sti
    vmload  rax
    vmrun   rax
    vmsave  rax
    cli
    pop     rax
    vmload  rax
    stgi
    pop     rax
    mov     [rax + 8], rcx
    mov     [rax + 16], rdx
    mov     [rax + 24], rbx
    mov     [rax + 40], rbp
    mov     [rax + 48], rsi
    mov     [rax + 56], rdi
    mov     [rax + 64], r8
    mov     [rax + 72], r9
    mov     [rax + 80], r10
    mov     [rax + 88], r11
    mov     [rax + 96], r12
    mov     [rax + 104], r13
    mov     [rax + 112], r14
    mov     [rax + 120], r15
    pop     r15
    pop     r14
    pop     r13
    pop     r12
    pop     rbp
    pop     rbx
    cld
    ret
    .popsection
    "#
);

unsafe extern "C" {
    fn svm_enter(frame: *mut Frame, guest: u64, host: u64);
}

/// Runs the guest until it leaves.
///
/// # Safety
///
/// 1. `guest` is the physical address of a control block that intercepts what
///    would reach the host, with nested paging over memory that is the guest's.
/// 2. `host` is that of a block filled by [`save_host`] on this CPU.
/// 3. SVM is on, VM_HSAVE_PA names a page of nobody else, and interrupts are closed.
#[inline]
pub(super) unsafe fn enter(frame: &mut Frame, guest: u64, host: u64) {
    // SAFETY: 1 to 3 are the caller's.
    unsafe { svm_enter(frame, guest, host) };
}

/// Stores this CPU's share of what VMLOAD brings back.
///
/// # Safety
///
/// 1. `block` is the physical address of a page of the caller's.
/// 2. SVM is on.
pub(super) unsafe fn save_host(block: u64) {
    // SAFETY: 1 and 2 are the caller's.
    unsafe { asm!("vmsave rax", in("rax") block, options(nostack)) };
}
