// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Calls of the firmware as registers have them, whatever they may be.
//!
//! Called by the checks, interrupts masked. [`sleep`] calls what loses the hart's
//! state and comes back nevertheless: what must survive is on the stack, and the
//! stack's address is what the firmware hands back.
//!
//! Spec: RISC-V SBI, "Binary Encoding", "Hart Suspend".

use core::arch::{asm, naked_asm};

/// What a call returned: a0 and a1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub error: isize,
    pub value: usize,
}

/// Calls function `function` of an extension.
pub fn call(extension: usize, function: usize, args: [usize; 5]) -> Answer {
    let [a, b, c, d, e] = args;
    let (error, value);
    // SAFETY: the checks' calls write only to memory that they name for it.
    unsafe {
        asm!(
            "ecall",
            inlateout("a0") a => error,
            inlateout("a1") b => value,
            in("a2") c,
            in("a3") d,
            in("a4") e,
            in("a6") function,
            in("a7") extension,
        );
    }
    Answer { error, value }
}

/// A trap that a call ended with: scause and stval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    pub cause: usize,
    pub value: usize,
}

/// Makes a legacy call with one argument, which may trap at the call.
pub fn legacy(extension: usize, argument: usize) -> Result<isize, Trap> {
    let (result, trapped, cause, value): (isize, usize, usize, usize);
    // SAFETY: a trap at the call goes to the next instruction but one, where
    // the vector is put back; interrupts are masked.
    unsafe {
        asm!(
            "la     {old}, 2f",
            "csrrw  {old}, stvec, {old}",
            "li     {trapped}, 1",
            "ecall",
            "li     {trapped}, 0",
            ".balign 4",
            "2:",
            "csrw   stvec, {old}",
            "csrr   {cause}, scause",
            "csrr   {value}, stval",
            old = out(reg) _,
            trapped = out(reg) trapped,
            cause = out(reg) cause,
            value = out(reg) value,
            inlateout("a0") argument => result,
            inlateout("a1") 0_usize => _,
            inlateout("a2") usize::MAX => _,
            in("a7") extension,
        );
    }
    match trapped {
        0 => Ok(result),
        _ => Err(Trap { cause, value }),
    }
}

/// Sleeps by a call that takes a type, where to resume and what to hand back.
///
/// Returns the call's error if it did not sleep, and [`SLEPT`] after it did.
pub fn sleep(extension: usize, function: usize, kind: usize) -> isize {
    // SAFETY: `sleep_on_stack` keeps to the calling convention.
    unsafe { sleep_on_stack(extension, function, kind) }
}

/// What no call returns.
pub const SLEPT: isize = 0x51ee9;

/// # Safety
/// The call is one that sleeps, or that is refused.
#[unsafe(naked)]
unsafe extern "C" fn sleep_on_stack(extension: usize, function: usize, kind: usize) -> isize {
    naked_asm!(
        "addi   sp, sp, -128",
        "sd     ra, 0(sp)",
        "sd     tp, 8(sp)",
        "sd     gp, 16(sp)",
        "sd     s0, 24(sp)",
        "sd     s1, 32(sp)",
        "sd     s2, 40(sp)",
        "sd     s3, 48(sp)",
        "sd     s4, 56(sp)",
        "sd     s5, 64(sp)",
        "sd     s6, 72(sp)",
        "sd     s7, 80(sp)",
        "sd     s8, 88(sp)",
        "sd     s9, 96(sp)",
        "sd     s10, 104(sp)",
        "sd     s11, 112(sp)",
        "mv     a7, a0",
        "mv     a6, a1",
        "mv     a0, a2",
        "la     a1, 1f",
        "mv     a2, sp",
        "ecall",
        "j      2f",
        ".balign 4",
        "1:",
        "mv     sp, a1",
        "li     a0, {slept}",
        "ld     tp, 8(sp)",
        "ld     gp, 16(sp)",
        "ld     s0, 24(sp)",
        "ld     s1, 32(sp)",
        "ld     s2, 40(sp)",
        "ld     s3, 48(sp)",
        "ld     s4, 56(sp)",
        "ld     s5, 64(sp)",
        "ld     s6, 72(sp)",
        "ld     s7, 80(sp)",
        "ld     s8, 88(sp)",
        "ld     s9, 96(sp)",
        "ld     s10, 104(sp)",
        "ld     s11, 112(sp)",
        "2:",
        "ld     ra, 0(sp)",
        "addi   sp, sp, 128",
        "ret",
        slept = const SLEPT,
    )
}

/// Lets only the timer's interrupt wake this hart, and takes others back.
pub fn listen_to_timer_only() {
    const SOFTWARE: usize = 1 << 1;
    const TIMER: usize = 1 << 5;
    // SAFETY: interrupts are masked, so that enabling one changes no control flow.
    unsafe {
        asm!("csrc sip, {}", "csrw sie, {}", in(reg) SOFTWARE, in(reg) TIMER);
    }
}

/// Reads the counter of cycles.
pub fn cycles() -> usize {
    let value;
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("rdcycle {}", out(reg) value) };
    value
}

/// Reads the counter of instructions.
pub fn instructions() -> usize {
    let value;
    // SAFETY: as above.
    unsafe { asm!("rdinstret {}", out(reg) value) };
    value
}
