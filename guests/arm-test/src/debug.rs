// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Debugging oneself: a breakpoint, a watchpoint, and single steps.
//!
//! Spec: Arm Architecture Reference Manual, "AArch64 Self-hosted Debug",
//! DBGBCR_EL1, DBGWCR_EL1, MDSCR_EL1.

use core::arch::{asm, global_asm};

use rt::arch::trap::{Fault, NOTHING_HERE};
use rt::machine::Failure;
use rt::say;

use crate::execute::{Registers, execute, word};
use rt::check::{Checked, hold, same};

/// MDSCR_EL1: one step; exceptions from EL1; breakpoints and watchpoints.
const STEP: u64 = 1;
const KERNEL: u64 = 1 << 13;
const POINTS: u64 = 1 << 15;
/// A control register: on, EL1, all bytes; a watchpoint for loads and stores.
const BREAKPOINT: u64 = 1 | 1 << 1 | 0xf << 5;
const WATCHPOINT: u64 = 1 | 1 << 1 | 3 << 3 | 0xff << 5;
/// EL1 with its own stack, interrupts masked, debug exceptions not, and a step begun.
const STEPPING: u64 = 5 | 3 << 6 | 1 << 8 | 1 << 21;
const EC_BREAKPOINT: usize = 0x31;
const EC_STEP: usize = 0x33;
const EC_WATCHPOINT: usize = 0x35;
/// A device's register that can be read: UARTFR.
const UART_FLAGS: u64 = 0x0900_0018;
const INSTRUCTION: usize = 4;

global_asm!(
    r#"
    .pushsection .text.debug, "ax"
    .globl  debug_plain
debug_plain:
    mov     x1, #5
    mov     x1, #6
    .globl  debug_device
debug_device:
    ldr     w1, [x0]
    mov     x1, #6
    .globl  debug_call
debug_call:
    mrs     x1, id_aa64dfr0_el1
    mov     x1, #6
    .popsection
    "#
);

unsafe extern "C" {
    fn debug_plain();
    fn debug_device();
    fn debug_call();
}

/// Writes a debug register.
macro_rules! put {
    ($register:literal, $value:expr) => {
        // SAFETY: debug exceptions come only in what `debugged` runs.
        unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) $value) }
    };
}

/// Runs the checks.
pub fn run() -> Checked {
    breakpoint()?;
    watchpoint()?;
    let targets: [(&str, unsafe extern "C" fn(), u64); 3] = [
        ("a step", debug_plain, 0),
        ("a step over a device's access", debug_device, UART_FLAGS),
        ("a step over an identification", debug_call, 0),
    ];
    for (what, target, x0) in targets {
        step(what, target as *const () as usize, x0)?;
    }
    say!("debugger passed");
    Ok(())
}

/// Executes an instruction while debug exceptions are on.
fn debugged(word: u32, registers: &mut Registers) -> Option<Fault> {
    // SAFETY: whatever comes is caught.
    unsafe { asm!("msr daifclr, #8") };
    let fault = execute(word, registers);
    mask();
    fault
}

/// Ends debug exceptions.
fn mask() {
    // SAFETY: as it was before.
    unsafe { asm!("msr daifset, #8") };
    put!("mdscr_el1", 0_u64);
}

fn breakpoint() -> Checked {
    let what = "a breakpoint";
    let nop = word!("nop");
    let slot = crate::execute::slot();
    put!("dbgbvr1_el1", slot as u64);
    put!("dbgbcr1_el1", BREAKPOINT);
    hold(
        "a breakpoint that is off",
        debugged(nop, &mut Registers::default()).is_none(),
    )?;
    put!("mdscr_el1", KERNEL | POINTS);
    let fault = debugged(nop, &mut Registers::default()).ok_or(Failure(what))?;
    put!("dbgbcr1_el1", 0_u64);
    same(what, fault.code >> 26, EC_BREAKPOINT)?;
    same(what, fault.pc, slot)
}

fn watchpoint() -> Checked {
    let what = "a watchpoint";
    let watched = 0x1234_u64;
    let address = (&raw const watched).addr() as u64;
    let mut registers = Registers::default();
    registers.x[0] = address;
    put!("dbgwvr1_el1", address);
    put!("dbgwcr1_el1", WATCHPOINT);
    put!("mdscr_el1", KERNEL | POINTS);
    let fault = debugged(word!("ldr x1, [x0]"), &mut registers).ok_or(Failure(what))?;
    put!("dbgwcr1_el1", 0_u64);
    same(what, fault.code >> 26, EC_WATCHPOINT)?;
    same(what, fault.address as u64, address)
}

/// Returns by an exception's way to a target, whose first instruction is stepped.
fn step(what: &'static str, target: usize, x0: u64) -> Checked {
    let mut registers = Registers::default();
    registers.x[0] = x0;
    put!("elr_el1", target);
    put!("spsr_el1", STEPPING);
    put!("mdscr_el1", KERNEL | STEP);
    let fault = execute(word!("eret"), &mut registers);
    mask();
    let fault = fault.ok_or(Failure(what))?;
    same(what, fault.code >> 26, EC_STEP)?;
    same(what, fault.pc, target + INSTRUCTION)
}

/// Makes this CPU's breakpoints tell whose they are; they are on, or not.
pub fn mark(own: u32) {
    put!("dbgbvr0_el1", mark_of(own));
    put!("mdscr_el1", if own == 0 { 0 } else { POINTS });
}

/// Tells whether they still do.
pub fn is_marked(own: u32) -> bool {
    let value: u64;
    // SAFETY: only reads.
    unsafe { asm!("mrs {}, dbgbvr0_el1", out(reg) value) };
    value == mark_of(own)
}

fn mark_of(own: u32) -> u64 {
    NOTHING_HERE as u64 + 8 * u64::from(own)
}
