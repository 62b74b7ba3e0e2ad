// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The world switch: the only assembly that a guest runs between.
//!
//! [`enter`] keeps the host's callee-saved registers on its stack, whose place it
//! writes into the VMCS, loads the guest's general registers from its frame and
//! enters it. An exit comes to `vmx_exit` with that stack and interrupts closed;
//! an entry that fails falls through with it.
//!
//! Spec: Intel SDM 3, "VM Entries", "Loading Host State".

use core::arch::global_asm;

use super::fields::HOST_RSP;
use crate::{
    frame::Frame,
    moves::{host_kept, kept, scratch},
};

global_asm!(
    ".pushsection .text.vmx_enter, \"ax\"",
    ".globl  vmx_enter",
    "vmx_enter:",                           // rdi frame, esi nonzero after the first entry
    host_kept!(push),
    "push    rdi",
    "mov     eax, {host_rsp}",
    "vmwrite rax, rsp",
    "test    esi, esi",
    "mov     rax, [rdi]",
    kept!(load "rdi"),
    scratch!(load "rdi"),
    "jnz     2f",
    "vmlaunch",
    "jmp     3f",
    "2:",
    "vmresume",
    "3:",
    "pop     rdi",
    "mov     eax, 1",
    "jmp     4f",
    ".globl  vmx_exit",
    "vmx_exit:",
    "xchg    rax, [rsp]",
    scratch!(store "rax"),
    kept!(store "rax"),
    "pop     rcx",
    "mov     [rax], rcx",
    "xor     eax, eax",
    "4:",
    host_kept!(pop),
    "ret",
    ".popsection",
    host_rsp = const HOST_RSP,
);

unsafe extern "C" {
    fn vmx_enter(frame: *mut Frame, is_launched: u32) -> u32;
    fn vmx_exit();
}

/// Runs the guest until it leaves; false if it was not even entered.
///
/// # Safety
///
/// 1. The VMCS that this CPU has loaded exits for whatever would reach the host,
///    and maps by EPT only what is the guest's.
/// 2. Its host state is this CPU's, with [`exit_address`].
/// 3. Interrupts are closed.
#[inline]
pub(super) unsafe fn enter(frame: &mut Frame, is_launched: bool) -> bool {
    // SAFETY: 1 to 3 are the caller's.
    unsafe { vmx_enter(frame, is_launched.into()) == 0 }
}

/// Returns where an exit goes on.
pub(super) fn exit_address() -> u64 {
    vmx_exit as *const () as u64
}
