// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Exception entry, and code that survives the fault it may cause.
//!
//! The vectors keep what the ABI lets a call destroy. An interrupt is counted;
//! a fault of what `catch` runs is noted and skipped; any other ends the run.
//!
//! Spec: Arm ARM, "Exception vectors", ESR_EL1.

use core::arch::global_asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{irq, sysreg_read, sysreg_write};

/// An address that is neither RAM nor a device of the `virt` machine.
pub const NOTHING_HERE: usize = 0x0b00_0000;

/// The exception of a single step.
const EC_STEP: usize = 0x33;

/// A fault that was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the architecture calls it.
    pub name: &'static str,
    /// ESR_EL1.
    pub code: usize,
    /// FAR_EL1.
    pub address: usize,
    /// ELR_EL1.
    pub pc: usize,
}

/// Where the boot CPU goes on after a fault; 0 while none is caught.
static RESUME: AtomicUsize = AtomicUsize::new(0);
static CODE: AtomicUsize = AtomicUsize::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static PC: AtomicUsize = AtomicUsize::new(0);

global_asm!(
    r#"
    .macro vector handler
    .balign 0x80
    sub     sp, sp, #192
    stp     x0, x1, [sp, #0]
    mov     x0, #(. - rt_trap_vectors - 8)
    ldr     x1, =\handler
    b       trap_common
    .endm

    .pushsection .text.trap, "ax"
    .balign 0x800
    .globl  rt_trap_vectors
rt_trap_vectors:
    .rept 4
    vector  {other}
    .endr
    vector  {synchronous}
    vector  {irq}
    .rept 10
    vector  {other}
    .endr
    .balign 0x80

trap_common:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x30, [sp, #144]
    mrs     x2, spsr_el1
    str     x2, [sp, #160]
    mov     x2, x1
    mrs     x1, elr_el1
    blr     x2
    msr     elr_el1, x0
    ldr     x2, [sp, #160]
    msr     spsr_el1, x2
    ldp     x18, x30, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp, #0]
    add     sp, sp, #192
    eret
    .ltorg

probe_read:
    ldr     w0, [x0]
probe_resume:
    ret
    .popsection
    "#,
    synchronous = sym on_synchronous,
    irq = sym on_irq,
    other = sym on_other,
);

unsafe extern "C" {
    static rt_trap_vectors: u8;
    fn probe_read(address: usize) -> u32;
    fn probe_resume();
}

/// Lets this CPU's exceptions come here.
pub fn init() {
    sysreg_write!("vbar_el1", (&raw const rt_trap_vectors).addr() as u64);
}

/// Reads 32 bits at `address`, or says which fault came instead.
pub fn probe(address: usize) -> Result<u32, Fault> {
    let mut value = 0;
    // SAFETY: a fault of this read is skipped.
    let read = || value = unsafe { probe_read(address) };
    match catch(probe_resume as *const () as usize, read) {
        None => Ok(value),
        Some(fault) => Err(fault),
    }
}

/// Runs `run` on the boot CPU; its first synchronous exception goes on at
/// `resume` with the registers as they were, and is returned.
pub fn catch(resume: usize, run: impl FnOnce()) -> Option<Fault> {
    RESUME.store(resume, Ordering::SeqCst);
    run();
    if RESUME.swap(0, Ordering::SeqCst) != 0 {
        return None;
    }
    let code = CODE.load(Ordering::Relaxed);
    Some(Fault {
        name: name_of(code),
        code,
        address: ADDRESS.load(Ordering::Relaxed),
        pc: PC.load(Ordering::Relaxed),
    })
}

extern "C" fn on_irq(_vector: usize, pc: usize) -> usize {
    irq::on_interrupt();
    pc
}

extern "C" fn on_synchronous(vector: usize, pc: usize) -> usize {
    let resume = RESUME.swap(0, Ordering::SeqCst);
    if resume == 0 {
        return on_other(vector, pc);
    }
    CODE.store(sysreg_read!("esr_el1") as usize, Ordering::Relaxed);
    ADDRESS.store(sysreg_read!("far_el1") as usize, Ordering::Relaxed);
    PC.store(pc, Ordering::Relaxed);
    // One step is enough: the next would be that of the handler's own return.
    if CODE.load(Ordering::Relaxed) >> 26 == EC_STEP {
        sysreg_write!("mdscr_el1", 0);
    }
    resume
}

extern "C" fn on_other(vector: usize, pc: usize) -> usize {
    let syndrome = sysreg_read!("esr_el1") as usize;
    let address = sysreg_read!("far_el1");
    let name = name_of(syndrome);
    crate::fail_with(format_args!(
        "{name}, vector {vector:#x}, ESR {syndrome:#x}, ELR {pc:#x}, FAR {address:#x}"
    ))
}

fn name_of(syndrome: usize) -> &'static str {
    match (syndrome >> 26, syndrome & 0x3f) {
        (0x25, 0x10) => "synchronous external abort",
        (0x25, 0x04..=0x07) => "data abort, translation fault",
        (0x25, 0x21) => "data abort, alignment fault",
        (0x25, _) => "data abort",
        (0x21, _) => "instruction abort",
        (0x00, _) => "unknown instruction",
        _ => "exception",
    }
}
