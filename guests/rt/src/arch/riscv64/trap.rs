// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Trap entry, and a read that survives the fault it may cause.
//!
//! The vector keeps what the ABI lets a call destroy. An interrupt is counted;
//! a fault in a probe is noted and skipped; any other ends the run.
//!
//! Spec: RISC-V Privileged, "Supervisor Cause Register (scause)".

use core::arch::global_asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{csr, irq, timer};

/// An address that is neither RAM nor a device of the `virt` machine.
pub const NOTHING_HERE: usize = 0x0800_0000;

const INTERRUPT: usize = 1 << 63;
const SOFTWARE: usize = INTERRUPT | 1;
const TIMER: usize = INTERRUPT | 5;

/// A fault that a probe met.
#[derive(Clone, Copy)]
pub struct Fault {
    /// What the architecture calls it.
    pub name: &'static str,
    /// `scause`.
    pub code: usize,
    /// `stval`.
    pub address: usize,
}

static PROBE_CODE: AtomicUsize = AtomicUsize::new(0);
static PROBE_ADDRESS: AtomicUsize = AtomicUsize::new(0);

global_asm!(
    r#"
    .pushsection .text.trap, "ax"
    .balign 4
    .globl  rt_trap_vector
rt_trap_vector:
    addi    sp, sp, -128
    sd      ra, 0(sp)
    sd      t0, 8(sp)
    sd      t1, 16(sp)
    sd      t2, 24(sp)
    sd      t3, 32(sp)
    sd      t4, 40(sp)
    sd      t5, 48(sp)
    sd      t6, 56(sp)
    sd      a0, 64(sp)
    sd      a1, 72(sp)
    sd      a2, 80(sp)
    sd      a3, 88(sp)
    sd      a4, 96(sp)
    sd      a5, 104(sp)
    sd      a6, 112(sp)
    sd      a7, 120(sp)
    csrr    a0, scause
    csrr    a1, sepc
    csrr    a2, stval
    call    {handler}
    csrw    sepc, a0
    ld      ra, 0(sp)
    ld      t0, 8(sp)
    ld      t1, 16(sp)
    ld      t2, 24(sp)
    ld      t3, 32(sp)
    ld      t4, 40(sp)
    ld      t5, 48(sp)
    ld      t6, 56(sp)
    ld      a0, 64(sp)
    ld      a1, 72(sp)
    ld      a2, 80(sp)
    ld      a3, 88(sp)
    ld      a4, 96(sp)
    ld      a5, 104(sp)
    ld      a6, 112(sp)
    ld      a7, 120(sp)
    addi    sp, sp, 128
    sret

probe_read:
    lw      a0, 0(a0)
    ret

probe_cycle_csr:
    csrr    a0, cycle
probe_resume:
    ret
    .popsection
    "#,
    handler = sym on_trap,
);

unsafe extern "C" {
    fn rt_trap_vector();
    fn probe_read(address: usize) -> u32;
    fn probe_cycle_csr() -> usize;
    fn probe_resume();
}

/// Lets this CPU's traps come here.
pub fn init() {
    csr!("csrw", "stvec", rt_trap_vector as *const () as usize);
}

/// Reads 32 bits at `address`, or says which fault came instead.
pub fn probe(address: usize) -> Result<u32, Fault> {
    // SAFETY: a fault of this read is skipped by the handler below.
    attempt(|| unsafe { probe_read(address) })
}

/// Reads the `cycle` register, or says which fault came instead.
pub fn probe_cycle() -> Result<usize, Fault> {
    // SAFETY: as for `probe`.
    attempt(|| unsafe { probe_cycle_csr() })
}

fn attempt<T>(probe: impl FnOnce() -> T) -> Result<T, Fault> {
    PROBE_CODE.store(usize::MAX, Ordering::Relaxed);
    let value = probe();
    match PROBE_CODE.load(Ordering::Relaxed) {
        usize::MAX => Ok(value),
        code => Err(Fault {
            name: name_of(code),
            code,
            address: PROBE_ADDRESS.load(Ordering::Relaxed),
        }),
    }
}

extern "C" fn on_trap(cause: usize, pc: usize, value: usize) -> usize {
    match cause {
        TIMER => timer::on_interrupt(),
        SOFTWARE => irq::on_ipi(),
        _ if is_probe(pc) => {
            PROBE_CODE.store(cause, Ordering::Relaxed);
            PROBE_ADDRESS.store(value, Ordering::Relaxed);
            return probe_resume as *const () as usize;
        }
        _ => unexpected(cause, pc, value),
    }
    pc
}

fn is_probe(pc: usize) -> bool {
    pc == probe_read as *const () as usize || pc == probe_cycle_csr as *const () as usize
}

fn unexpected(cause: usize, pc: usize, value: usize) -> ! {
    let name = name_of(cause);
    crate::fail_with(format_args!(
        "{name}, scause {cause:#x}, sepc {pc:#x}, stval {value:#x}"
    ))
}

fn name_of(cause: usize) -> &'static str {
    match cause {
        0 => "instruction address misaligned",
        1 => "instruction access fault",
        2 => "illegal instruction",
        3 => "breakpoint",
        4 => "load address misaligned",
        5 => "load access fault",
        6 => "store address misaligned",
        7 => "store access fault",
        12 => "instruction page fault",
        13 => "load page fault",
        15 => "store page fault",
        _ => "trap",
    }
}
