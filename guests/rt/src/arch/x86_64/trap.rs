// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The IDT, exception entry, and a read that survives the fault it may cause.
//!
//! The stubs keep what the ABI lets a call destroy. An interrupt is counted; a
//! fault in `probe_read` is noted and skipped; any other ends the run. On a PC
//! an address where nothing is reads as zeros or ones, without a fault.
//!
//! Spec: Intel SDM 3, "Interrupt and Exception Handling", "64-Bit Mode IDT".

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::entry::CODE_SELECTOR;
use super::{irq, timer};

/// An address that is neither RAM nor a device of a PC with less than 3 GiB.
pub const NOTHING_HERE: usize = 0xd000_0000;

/// The vector of the APIC timer.
pub const TIMER: u8 = 0x20;
/// The vector of the IPI.
pub const IPI: u8 = 0x21;
/// The vector of the APIC's spurious interrupts.
pub const SPURIOUS: u8 = 0x2f;

const VECTORS: usize = 48;
const STUB_BYTES: u64 = 16;
const INTERRUPT_GATE: u64 = 0x8e << 40;
const PAGE_FAULT: u64 = 14;

/// A fault that a probe met.
#[derive(Clone, Copy)]
pub struct Fault {
    /// What the architecture calls it.
    pub name: &'static str,
    /// The error code.
    pub code: usize,
    /// CR2.
    pub address: usize,
}

#[repr(C)]
struct Frame {
    registers: [u64; 9],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

static IDT: [[AtomicU64; 2]; VECTORS] = [const { [AtomicU64::new(0), AtomicU64::new(0)] }; VECTORS];
static PROBE_VECTOR: AtomicU64 = AtomicU64::new(0);
static PROBE_ERROR: AtomicUsize = AtomicUsize::new(0);

global_asm!(
    r#"
    .pushsection .text.trap, "ax"
    .balign 16
trap_stubs:
    .set    vector, 0
    .rept   48
    .balign 16
    .if     (0x60227d00 >> vector) & 1
    .else
    push    0                       // the CPU pushes no error code
    .endif
    push    vector
    jmp     trap_common
    .set    vector, vector + 1
    .endr

    .balign 16
trap_common:
    push    rax
    push    rcx
    push    rdx
    push    rsi
    push    rdi
    push    r8
    push    r9
    push    r10
    push    r11
    mov     rdi, rsp
    call    {handler}
    pop     r11
    pop     r10
    pop     r9
    pop     r8
    pop     rdi
    pop     rsi
    pop     rdx
    pop     rcx
    pop     rax
    add     rsp, 16
    iretq

probe_read:
    mov     eax, [rdi]
probe_resume:
    ret
    .popsection
    "#,
    handler = sym on_trap,
);

unsafe extern "C" {
    static trap_stubs: u8;
    fn probe_read(address: usize) -> u32;
    fn probe_resume();
}

/// Lets this CPU's exceptions and interrupts come here.
pub fn init() {
    let stubs = (&raw const trap_stubs).addr() as u64;
    for (vector, gate) in (0..).zip(&IDT) {
        set_gate(gate, stubs + vector * STUB_BYTES);
    }
    load_idt(size_of_val(&IDT) as u16 - 1);
}

/// Lets `vector` go to code at `handler`, which keeps what it interrupts.
pub fn route(vector: u8, handler: u64) {
    if let Some(gate) = IDT.get(usize::from(vector)) {
        set_gate(gate, handler);
    }
}

fn set_gate([low, high]: &[AtomicU64; 2], handler: u64) {
    let gate = handler & 0xffff | (handler & 0xffff_0000) << 32 | INTERRUPT_GATE;
    low.store(gate | u64::from(CODE_SELECTOR) << 16, Ordering::Relaxed);
    high.store(handler >> 32, Ordering::Relaxed);
}

/// Makes every further exception a triple fault, which resets the machine.
pub fn deinit() {
    load_idt(0);
}

#[repr(C, packed)]
struct IdtPointer {
    limit: u16,
    base: u64,
}

fn load_idt(limit: u16) {
    let base = (&raw const IDT).addr() as u64;
    let pointer = IdtPointer { limit, base };
    // SAFETY: the table lives for ever; its handlers keep what they interrupt.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack)) };
}

/// Reads 32 bits at `address`, or says which fault came instead.
pub fn probe(address: usize) -> Result<u32, Fault> {
    PROBE_VECTOR.store(u64::MAX, Ordering::Relaxed);
    // SAFETY: a fault of this read is skipped by the handler below.
    let value = unsafe { probe_read(address) };
    match PROBE_VECTOR.load(Ordering::Relaxed) {
        u64::MAX => Ok(value),
        vector => Err(Fault {
            name: name_of(vector),
            code: PROBE_ERROR.load(Ordering::Relaxed),
            address: if vector == PAGE_FAULT {
                read_cr2()
            } else {
                address
            },
        }),
    }
}

extern "C" fn on_trap(frame: &mut Frame) {
    const TIMER_VECTOR: u64 = TIMER as u64;
    const IPI_VECTOR: u64 = IPI as u64;
    const SPURIOUS_VECTOR: u64 = SPURIOUS as u64;
    match frame.vector {
        TIMER_VECTOR => timer::on_interrupt(),
        IPI_VECTOR => irq::on_ipi(),
        SPURIOUS_VECTOR => {}
        vector if frame.rip == probe_read as *const () as u64 => {
            PROBE_VECTOR.store(vector, Ordering::Relaxed);
            PROBE_ERROR.store(frame.error as usize, Ordering::Relaxed);
            frame.rip = probe_resume as *const () as u64;
        }
        _ => unexpected(frame),
    }
}

fn unexpected(frame: &Frame) -> ! {
    let Frame {
        vector, error, rip, ..
    } = frame;
    let (name, cr2) = (name_of(*vector), read_cr2());
    crate::fail_with(format_args!(
        "{name}, vector {vector}, error {error:#x}, rip {rip:#x}, cr2 {cr2:#x}"
    ))
}

fn read_cr2() -> usize {
    let address: usize;
    // SAFETY: only reads.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack)) };
    address
}

fn name_of(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        6 => "invalid opcode",
        8 => "double fault",
        12 => "stack fault",
        13 => "general protection fault",
        PAGE_FAULT => "page fault",
        18 => "machine check",
        _ => "exception",
    }
}
