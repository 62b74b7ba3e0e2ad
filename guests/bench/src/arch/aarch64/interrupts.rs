// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Timer interrupt and SGI, from the cause to the handler.
//!
//! `caused!` runs the cause with interrupts unmasked and spins until the handler
//! below has noted the clock in x16 and masked interrupts again; acknowledging
//! and ending the interrupt comes after that, untimed. The vectors are ours
//! only here.
//!
//! Spec: Arm ARM, "Exception vectors"; "The Generic Timer in AArch64 state"; Arm
//! GIC Architecture Specification.

use core::arch::{asm, global_asm};

use crate::rounds::round_trip;
use rt::arch::gic::{self, OwnSgi};
use rt::arch::irq::{IPI, VIRTUAL_TIMER};
use rt::arch::{timer, trap};
use rt::machine::Failure;

// Spins before an interrupt is given up.
const PATIENCE: u64 = 10_000_000;

global_asm!(
    r#"
    .pushsection .text.bench_vectors, "ax"
    .balign 0x800
    .globl  bench_vectors
bench_vectors:
    .set    offset, 0
    .rept   5
    b       rt_trap_vectors + offset
    .balign 0x80
    .set    offset, offset + 0x80
    .endr
    mrs     x16, cntvct_el0         // IRQ from here
    mrs     x17, spsr_el1
    orr     x17, x17, #0x80         // return with interrupts masked
    msr     spsr_el1, x17
    eret
    .balign 0x80
    .set    offset, offset + 0x80
    .rept   10
    b       rt_trap_vectors + offset
    .balign 0x80
    .set    offset, offset + 0x80
    .endr
    .popsection
    "#
);

unsafe extern "C" {
    static bench_vectors: u8;
}

/// Runs the assembly that causes an interrupt; returns the ticks from before it
/// to the handler, or `None` if no interrupt came.
macro_rules! caused {
    ($code:literal, $($operand:tt)*) => {{
        let (start, stop): (u64, u64);
        asm!(
            "mov    x16, #0",
            "msr    daifclr, #2",
            "isb",
            "mrs    {start}, cntvct_el0",
            $code,
            "2:",
            "cbnz   x16, 3f",
            "sub    {patience}, {patience}, #1",
            "cbnz   {patience}, 2b",
            "3:",
            "msr    daifset, #2",
            start = out(reg) start,
            out("x16") stop,
            out("x17") _,
            patience = inout(reg) PATIENCE => _,
            $($operand)*
        );
        (stop != 0).then(|| stop.wrapping_sub(start))
    }};
}

/// Measures the interrupts.
pub fn measure() -> Result<(), Failure> {
    set_vectors();
    round_trip("timer-interrupt", timer_interrupt)?;
    match gic::own_sgi(IPI)? {
        OwnSgi::SystemRegister(value) => round_trip("sgi-self", || sgi_by_register(value)),
        OwnSgi::Memory(address, value) => round_trip("sgi-self", || sgi_by_memory(address, value)),
    }?;
    trap::init();
    Ok(())
}

fn set_vectors() {
    let vectors = (&raw const bench_vectors).addr();
    // SAFETY: the handler changes only what `caused!` says.
    unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) vectors) };
}

fn timer_interrupt() -> Result<u64, Failure> {
    // SAFETY: sets the timer to the past; the handler changes only what is said.
    let ticks = unsafe {
        caused!("msr cntv_cval_el0, xzr\n msr cntv_ctl_el0, {on}\n isb", on = in(reg) 1_u64,)
    };
    let acknowledged = gic::acknowledge();
    timer::disarm();
    gic::end(acknowledged);
    expect(acknowledged, VIRTUAL_TIMER)?;
    ticks.ok_or(Failure("no timer interrupt"))
}

fn sgi_by_register(value: u64) -> Result<u64, Failure> {
    // SAFETY: sends an SGI, from the register that Linux has it in; the handler
    // changes only what is said.
    let ticks = unsafe { caused!("msr icc_sgi1r_el1, x0\n isb", in("x0") value,) };
    end_sgi(ticks)
}

fn sgi_by_memory(address: usize, value: u32) -> Result<u64, Failure> {
    // SAFETY: as for `sgi_by_register`.
    let ticks = unsafe {
        caused!("str {value:w}, [{address}]", value = in(reg) value, address = in(reg) address,)
    };
    end_sgi(ticks)
}

fn end_sgi(ticks: Option<u64>) -> Result<u64, Failure> {
    let acknowledged = gic::acknowledge();
    gic::end(acknowledged);
    expect(acknowledged, IPI)?;
    ticks.ok_or(Failure("no SGI"))
}

fn expect(acknowledged: u32, id: gic::InterruptId) -> Result<(), Failure> {
    if gic::id_of(acknowledged) != id {
        return Err(Failure("the GIC gave another interrupt"));
    }
    Ok(())
}
