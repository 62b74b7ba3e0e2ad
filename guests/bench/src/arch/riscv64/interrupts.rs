// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! IPI, timer and device interrupt, from the cause to the handler.
//!
//! `caused!` runs the cause with interrupts unmasked and spins until the handler
//! below has noted the clock in t0 and masked interrupts again; what made the
//! interrupt is taken back after that, untimed. The vector is ours only here.
//!
//! Spec: RISC-V Privileged, "Supervisor Trap Vector Base Address"; SBI, "IPI",
//! "Timer"; RISC-V PLIC.

use core::arch::{asm, global_asm};

use super::calls::TIME;
use super::clock;
use crate::rounds::{self, round_trip};
use rt::arch::{timer, trap};
use rt::cpu;
use rt::machine::Failure;

const IPI: usize = 0x73_5049;
const SUPERVISOR_SOFTWARE: usize = 1 << 1;
const SUPERVISOR_EXTERNAL: usize = 1 << 9;
// Spins before an interrupt is given up.
const PATIENCE: usize = 10_000_000;

global_asm!(
    r#"
    .pushsection .text.bench_vectors, "ax"
    .balign 4
    .globl  bench_vector_cycle
bench_vector_cycle:
    csrr    t0, cycle
    j       1f
    .balign 4
    .globl  bench_vector_time
bench_vector_time:
    csrr    t0, time
1:  csrr    t1, scause
    bgez    t1, 2f
    li      t1, 0x20                // SPIE: return with interrupts masked
    csrc    sstatus, t1
    sret
2:  tail    rt_trap_vector
    .popsection
    "#
);

unsafe extern "C" {
    fn bench_vector_cycle();
    fn bench_vector_time();
}

/// Runs the assembly that causes an interrupt; returns the ticks from before it
/// to the handler, or `None` if no interrupt came.
macro_rules! caused {
    ($code:literal, $($operand:tt)*) => {{
        let (start, stop): (u64, u64);
        if clock::is_cycle() {
            caused!(@ "cycle", start, stop, $code, $($operand)*);
        } else {
            caused!(@ "time", start, stop, $code, $($operand)*);
        }
        (stop != 0).then(|| stop.wrapping_sub(start))
    }};
    (@ $clock:literal, $start:ident, $stop:ident, $code:literal, $($operand:tt)*) => {
        asm!(
            "li     t0, 0",
            "csrsi  sstatus, 2",
            concat!("csrr {start}, ", $clock),
            $code,
            "2:",
            "bnez   t0, 3f",
            "addi   t2, t2, -1",
            "bnez   t2, 2b",
            "3:",
            "csrci  sstatus, 2",
            start = out(reg) $start,
            out("t0") $stop,
            out("t1") _,
            inout("t2") PATIENCE => _,
            $($operand)*
        )
    };
}

/// Measures the interrupts.
pub fn measure() -> Result<(), Failure> {
    plic::init();
    set_vector();
    round_trip("ipi-self", ipi)?;
    round_trip("timer-past", timer_past)?;
    enable(SUPERVISOR_EXTERNAL);
    device()?;
    round_trip("plic-claim", claim)?;
    round_trip("plic-complete", complete)?;
    trap::init();
    Ok(())
}

// What raises the interrupt is an access to the device, which costs something by
// itself: the same access that raises nothing is taken away.
fn device() -> Result<(), Failure> {
    let raised = round_trip("uart-interrupt", uart)?;
    let quiet = round_trip("uart-enable-write", uart_without_interrupt)?;
    rounds::report("device-interrupt", raised.without(quiet));
    Ok(())
}

fn set_vector() {
    let vector = if clock::is_cycle() {
        bench_vector_cycle as *const () as usize
    } else {
        bench_vector_time as *const () as usize
    };
    // SAFETY: the handler changes only what `caused!` says.
    unsafe { asm!("csrw stvec, {}", in(reg) vector) };
}

fn enable(interrupts: usize) {
    // SAFETY: interrupts are masked but in `caused!`.
    unsafe { asm!("csrs sie, {}", in(reg) interrupts) };
}

fn ipi() -> Result<u64, Failure> {
    let hart = cpu::hardware_id(0).0 as usize;
    // SAFETY: an SBI call; the handler changes only what `caused!` says.
    let ticks = unsafe {
        caused!("ecall", inlateout("a0") 1_usize => _, inlateout("a1") hart => _,
            in("a6") 0_usize, in("a7") IPI,)
    };
    // SAFETY: takes the request back.
    unsafe { asm!("csrc sip, {}", in(reg) SUPERVISOR_SOFTWARE) };
    ticks.ok_or(Failure("no IPI"))
}

fn timer_past() -> Result<u64, Failure> {
    // SAFETY: as in `ipi`.
    let ticks = unsafe {
        caused!("ecall", inlateout("a0") 0_usize => _, inlateout("a1") 0_usize => _,
            in("a6") 0_usize, in("a7") TIME,)
    };
    timer::disarm();
    ticks.ok_or(Failure("no timer interrupt"))
}

// The transmitter is empty, so enabling its interrupt raises it.
fn uart() -> Result<u64, Failure> {
    let ticks = raise_uart();
    let source = plic::claim_one();
    plic::lower_uart();
    plic::complete(source);
    ticks.ok_or(Failure("no interrupt from the UART"))
}

fn raise_uart() -> Option<u64> {
    // SAFETY: the UART does not touch memory; the rest as in `ipi`.
    unsafe {
        caused!("sb {enable}, 0({register})", register = in(reg) plic::UART_INTERRUPT_ENABLE,
            enable = in(reg) plic::TRANSMITTER_EMPTY,)
    }
}

fn uart_without_interrupt() -> Result<u64, Failure> {
    // SAFETY: the UART does not touch memory.
    Ok(unsafe { timed!("sb zero, 0({register})", register = in(reg) plic::UART_INTERRUPT_ENABLE) })
}

fn claim() -> Result<u64, Failure> {
    raise_uart().ok_or(Failure("no interrupt from the UART"))?;
    let source: u32;
    // SAFETY: the PLIC does not touch memory.
    let ticks = unsafe {
        timed!("lw {source}, 0({claim})", claim = in(reg) plic::claim(),
            source = lateout(reg) source)
    };
    plic::lower_uart();
    plic::complete(source);
    if source != plic::UART {
        return Err(Failure("the PLIC did not give the UART's interrupt"));
    }
    Ok(ticks)
}

fn complete() -> Result<u64, Failure> {
    raise_uart().ok_or(Failure("no interrupt from the UART"))?;
    let source = plic::claim_one();
    plic::lower_uart();
    // SAFETY: the PLIC does not touch memory.
    Ok(unsafe {
        timed!("sw {source}, 0({claim})", claim = in(reg) plic::claim(),
            source = in(reg) source)
    })
}

pub mod plic {
    //! As much of the PLIC as one interrupt of the UART needs.

    use super::cpu;

    /// The UART's interrupt.
    pub const UART: u32 = 10;
    /// The UART's interrupt enable register.
    pub const UART_INTERRUPT_ENABLE: usize = 0x1000_0001;
    /// The transmitter's bit in it.
    pub const TRANSMITTER_EMPTY: u8 = 2;

    const BASE: usize = 0x0c00_0000;
    const ENABLES: usize = 0x2000;
    const ENABLES_BYTES: usize = 0x80;
    const CONTEXTS: usize = 0x20_0000;
    const CONTEXT_BYTES: usize = 0x1000;
    const CLAIM: usize = 4;

    // Each hart of the `virt` machine has two contexts, its supervisor's second.
    fn context() -> usize {
        cpu::hardware_id(0).0 as usize * 2 + 1
    }

    /// Lets the UART's interrupt through to the boot CPU.
    pub fn init() {
        write(UART as usize * 4, 1);
        write(ENABLES + context() * ENABLES_BYTES, 1 << UART);
        write(CONTEXTS + context() * CONTEXT_BYTES, 0);
    }

    /// Returns the address of the claim register.
    pub fn claim() -> usize {
        BASE + CONTEXTS + context() * CONTEXT_BYTES + CLAIM
    }

    /// Claims an interrupt.
    pub fn claim_one() -> u32 {
        // SAFETY: the machine's PLIC is here.
        unsafe { (claim() as *const u32).read_volatile() }
    }

    /// Says that an interrupt has been dealt with.
    pub fn complete(source: u32) {
        // SAFETY: the PLIC does not touch memory.
        unsafe { (claim() as *mut u32).write_volatile(source) };
    }

    /// Takes the UART's interrupt back.
    pub fn lower_uart() {
        // SAFETY: the UART does not touch memory.
        unsafe { (UART_INTERRUPT_ENABLE as *mut u8).write_volatile(0) };
    }

    fn write(offset: usize, value: u32) {
        // SAFETY: the PLIC does not touch memory.
        unsafe { ((BASE + offset) as *mut u32).write_volatile(value) };
    }
}
