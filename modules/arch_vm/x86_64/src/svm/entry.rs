// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The world switch: the only assembly that a guest runs between.
//!
//! [`enter`] keeps the host's callee-saved registers on its stack, loads the
//! guest's general registers from its frame and runs it; behind VMRUN nothing
//! but RAX and RSP is the host's, and they lead to all else. What [`fast::answer`]
//! finishes goes back into the guest from there: only the registers that a call
//! may change were put away. Otherwise VMSAVE and VMLOAD move the rest: FS and GS,
//! TR and LDTR, and the registers of system calls.
//!
//! The global interrupt flag is off from before VMRUN until the host's state is
//! back, so that neither an NMI nor a machine check meets a guest's GS. IF is
//! set meanwhile, since that is what lets the host's interrupts end the guest's
//! time; it is closed again before they could be taken.
//!
//! Spec: AMD64 APM 2, "VMRUN Instruction", "#VMEXIT", "Global Interrupt Flag".

use core::arch::{asm, naked_asm};

use axvm::AxVMHal;

use super::{Svm, fast};
use crate::{
    moves::{host_kept, kept, scratch},
    vcpu::VCpu,
};

/// Runs the guest until it leaves for something that is not finished at once.
///
/// # Safety
///
/// 1. `guest` is the physical address of a control block that intercepts what
///    would reach the host, with nested paging over memory that is the guest's.
/// 2. `host` is that of a block filled by [`save_host`] on this CPU.
/// 3. SVM is on, VM_HSAVE_PA names a page of nobody else, and interrupts are closed.
/// 4. `vcpu` begins with its frame, and nobody else uses it.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn enter<H: AxVMHal>(
    vcpu: *mut VCpu<H, Svm<H>>,
    guest: u64,
    host: u64,
) {
    naked_asm!(
        host_kept!(push),
        "push    rdx",
        "push    rdi",
        "push    rsi",                      // guest's block, vCPU, host's block
        "mov     rax, rsi",
        "clgi",
        "sti",
        "vmload  rax",
        "mov     rax, rdi",
        kept!(load "rax"),
        "2:",
        scratch!(load "rax"),
        "mov     rax, [rsp]",
        "vmrun   rax",
        "mov     rax, [rsp + 8]",
        scratch!(store "rax"),
        "mov     rdi, rax",
        "call    {answer}",
        "test    rax, rax",
        "jnz     2b",
        "pop     rax",
        "vmsave  rax",
        "cli",
        "pop     rdx",
        "pop     rax",
        "vmload  rax",
        "stgi",
        kept!(store "rdx"),
        host_kept!(pop),
        "ret",
        answer = sym fast::answer::<H>,
    )
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
