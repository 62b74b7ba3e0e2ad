// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Executes a few bytes with chosen registers, and tells which exception came.
//!
//! The bytes stand in a page of [`WINDOW`], the only memory that a program may
//! touch besides devices' addresses where nothing is ([`NOTHING`]). Behind them is
//! `int 0x2e`, which is how they end if they end well; of a stray program nobody
//! knows, and the timer ends it if it does not.
//!
//! Called on the boot CPU with interrupts masked.
//!
//! Spec: Intel SDM 3, "64-Bit Mode Stack Switching", "Task Management in 64-bit Mode".

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rt::arch::{apic, entry, port, timer, trap};

/// 2 MiB of RAM that a program may use.
pub const WINDOW: u64 = 0x100_0000;
/// What the code's page has behind it: data, which is RAM.
pub const DATA: u64 = WINDOW + 0x4000;
const CODE: u64 = WINDOW + 0x1000;
const USER_STACK: u64 = WINDOW + 0x3000;
/// 2 MiB where no PC of this size has anything; a program may try.
pub const NOTHING: u64 = trap::NOTHING_HERE as u64;

/// Numbers of registers.
pub const RAX: usize = 0;
pub const RCX: usize = 1;
pub const RDX: usize = 2;
pub const RBX: usize = 3;
pub const RSP: usize = 4;
pub const RSI: usize = 6;
pub const RDI: usize = 7;

/// The vectors of exceptions.
pub const UNDEFINED: u64 = 6;
pub const PROTECTION: u64 = 13;
pub const PAGE_FAULT: u64 = 14;
const TIMER: u64 = trap::TIMER as u64;
const END: u64 = 0x2e;
/// What `int 0x2e` is to a program: a gate that it may not use. QEMU counts gates
/// twice.
const ENDS_OF_PROGRAM: [u64; 2] = [END << 3 | 2, END << 4 | 2];
/// How long a stray program may run.
const STRAY_NS: u64 = 50_000;

const USER: u64 = 1 << 2;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const GS_BASE: u32 = 0xc000_0101;
const INTERRUPTS_OPEN: u64 = 1 << 9;
const ALWAYS_ONE: u64 = 1 << 1;

/// The registers that the bytes are given, and what they leave.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    /// In the order of their numbers; RSP is set only for programs.
    pub gprs: [u64; 16],
    /// RFLAGS.
    pub flags: u64,
}

/// An exception, or the timer's interrupt.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    pub vector: u64,
    pub error: u64,
    /// CR2.
    pub address: u64,
}

/// Who executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The kernel.
    Kernel,
    /// A program, of which it is known that it ends.
    Program,
    /// A program that the timer ends if nothing else does.
    Stray,
}

/// Data and code for programs, and a task state for the way back.
static GDT: [AtomicU64; 8] = [
    AtomicU64::new(0),
    AtomicU64::new(0x00af_9b00_0000_ffff),
    AtomicU64::new(0x00cf_9300_0000_ffff),
    AtomicU64::new(0x00cf_9b00_0000_ffff),
    AtomicU64::new(0x00cf_f300_0000_ffff),
    AtomicU64::new(0x00af_fb00_0000_ffff),
    AtomicU64::new(0),
    AtomicU64::new(0),
];
const TASK_SELECTOR: u16 = 0x30;
const TASK_BYTES: u64 = 104;
const TASK_RIGHTS: u64 = 0x89 << 40;
static TASK: [AtomicU64; 14] = [const { AtomicU64::new(0) }; 14];
const TRAP_STACK_WORDS: usize = 512;
static TRAP_STACK: [AtomicU64; TRAP_STACK_WORDS] = [const { AtomicU64::new(0) }; TRAP_STACK_WORDS];

global_asm!(
    r#"
    .pushsection .bss.execute, "aw", @nobits
    .balign 8
execute_stack:
    .skip   8
execute_registers:
    .skip   8
execute_rax:
    .skip   8
    .globl  execute_trap
execute_trap:                       // vector, error, CR2
    .skip   24
    .popsection

    .pushsection .text.execute, "ax"
    .globl  execute_with
execute_with:                       // rdi registers, rsi code, edx nonzero for a program
    push    rbx
    push    rbp
    push    r12
    push    r13
    push    r14
    push    r15
    mov     [rip + execute_stack], rsp
    mov     [rip + execute_registers], rdi
    lea     rcx, [rsp - 512]
    test    edx, edx
    jnz     2f
    push    0x10
    push    rcx
    push    qword ptr [rdi + 128]
    push    0x08
    jmp     3f
2:  push    0x23
    push    qword ptr [rdi + 32]
    push    qword ptr [rdi + 128]
    push    0x2b
3:  push    rsi
    mov     rax, [rdi]
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
    iretq

    .balign 16
    .globl  execute_stubs
execute_stubs:
    .set    vector, 0
    .rept   48
    .balign 16
    .if     (0x60227d00 >> vector) & 1
    .else
    push    0
    .endif
    push    vector
    jmp     execute_end
    .set    vector, vector + 1
    .endr

execute_end:
    cld
    mov     [rip + execute_rax], rax
    mov     rax, [rip + execute_registers]
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
    mov     rcx, [rip + execute_rax]
    mov     [rax], rcx
    pop     qword ptr [rip + execute_trap]
    pop     qword ptr [rip + execute_trap + 8]
    mov     rcx, [rsp + 16]
    mov     [rax + 128], rcx
    mov     rcx, [rsp + 24]
    mov     [rax + 32], rcx
    mov     rcx, cr2
    mov     [rip + execute_trap + 16], rcx
    mov     rsp, [rip + execute_stack]
    mov     ecx, 0x10
    mov     ss, ecx
    mov     ds, ecx
    mov     es, ecx
    pop     r15
    pop     r14
    pop     r13
    pop     r12
    pop     rbp
    pop     rbx
    ret
    .popsection
    "#
);

unsafe extern "C" {
    static execute_stubs: u8;
    static execute_trap: Trap;
    fn execute_with(registers: *mut Registers, code: u64, who: u32);
}

/// Gives programs their window, and this CPU what it needs to come back from one.
pub fn init() {
    for address in [WINDOW, NOTHING] {
        open(address);
    }
    let stack = (&raw const TRAP_STACK).addr() as u64 + size_of_val(&TRAP_STACK) as u64;
    // RSP0 is at 4.
    TASK[0].store(stack << 32, Relaxed);
    TASK[1].store(stack >> 32, Relaxed);
    // The map of ports is behind the end: programs have none.
    TASK[12].store(TASK_BYTES << 48, Relaxed);
    let task = (&raw const TASK).addr() as u64;
    let low = (task & 0xff_ffff) << 16 | (task >> 24 & 0xff) << 56 | TASK_RIGHTS | (TASK_BYTES - 1);
    GDT[6].store(low, Relaxed);
    GDT[7].store(task >> 32, Relaxed);
    load_tables();
    open_vectors();
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

fn load_tables() {
    let pointer = TablePointer {
        limit: size_of_val(&GDT) as u16 - 1,
        base: (&raw const GDT).addr() as u64,
    };
    // SAFETY: the table lives for ever and has what is in use at its places.
    unsafe { asm!("lgdt [{}]", in(reg) &raw const pointer, options(readonly, nostack)) };
    // SAFETY: the descriptor is that of `TASK`.
    unsafe { asm!("ltr {:x}", in(reg) TASK_SELECTOR, options(nostack)) };
}

/// Lets the vector instructions be executed: OSFXSR and OSXMMEXCPT, MP without EM.
fn open_vectors() {
    // SAFETY: no code here uses these registers.
    unsafe {
        asm!(
            "mov {value}, cr4",
            "or {value}, 0x600",
            "mov cr4, {value}",
            "mov {value}, cr0",
            "and {value}, ~4",
            "or {value}, 2",
            "mov cr0, {value}",
            value = out(reg) _, options(nostack)
        );
    }
}

/// Lets programs use the 2 MiB at an address.
fn open(address: u64) {
    let mut table: u64;
    // SAFETY: only reads.
    unsafe { asm!("mov {}, cr3", out(reg) table, options(nomem, nostack)) };
    for shift in [39, 30, 21] {
        let entry = entry_of(table, address, shift);
        // SAFETY: tables are mapped one to one, and nobody else uses them.
        let value = unsafe { entry.read_volatile() } | USER;
        // SAFETY: as above; it only adds rights.
        unsafe { entry.write_volatile(value) };
        table = value;
    }
    // SAFETY: drops what the CPU has of the tables.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack)) };
}

fn entry_of(table: u64, address: u64, shift: u32) -> *mut u64 {
    let index = address >> shift & 511;
    ((table & ADDRESS) + index * 8) as *mut u64
}

/// Returns the entry of 2 MiB of addresses.
pub fn directory_entry(address: u64) -> *mut u64 {
    let mut table: u64;
    // SAFETY: only reads.
    unsafe { asm!("mov {}, cr3", out(reg) table, options(nomem, nostack)) };
    for shift in [39, 30] {
        // SAFETY: tables are mapped one to one.
        table = unsafe { entry_of(table, address, shift).read_volatile() };
    }
    entry_of(table, address, 21)
}

/// Executes the bytes; `None` if they came to their end.
pub fn execute(bytes: &[u8], who: Who, registers: &mut Registers) -> Option<Trap> {
    place(bytes);
    registers.flags |= ALWAYS_ONE;
    if who != Who::Kernel {
        registers.gprs[RSP] = USER_STACK;
    }
    if who == Who::Stray {
        registers.flags |= INTERRUPTS_OPEN;
        timer::arm_ns(STRAY_NS);
    }
    let stubs = (&raw const execute_stubs).addr() as u64;
    (0..22)
        .chain([TIMER, END])
        .for_each(|vector| trap::route(vector as u8, stubs + vector * 16));
    // SAFETY: the stubs bring every end of the bytes back; what they touch is not in
    // use, or the check that chose them takes care.
    unsafe { execute_with(registers, CODE, (who != Who::Kernel).into()) };
    trap::init();
    end_program(who);
    // SAFETY: only the stubs write it.
    let trap = unsafe { (&raw const execute_trap).read_volatile() };
    let has_ended = match who {
        Who::Kernel => trap.vector == END,
        Who::Program | Who::Stray => {
            trap.vector == PROTECTION && ENDS_OF_PROGRAM.contains(&trap.error)
        }
    };
    (!has_ended).then_some(trap)
}

/// Undoes what a program can change of its kernel's.
fn end_program(who: Who) {
    if who != Who::Stray {
        return;
    }
    timer::disarm();
    // SAFETY: only the stubs write it.
    let trap = unsafe { (&raw const execute_trap).read_volatile() };
    if trap.vector == TIMER {
        apic::write(apic::END_OF_INTERRUPT, 0);
    }
    // Whoever loads GS loses its base.
    // SAFETY: the base is as it was made.
    unsafe { port::write_msr(GS_BASE, entry::boot_cpu_base()) };
}

fn place(bytes: &[u8]) {
    const INT_END: [u8; 2] = [0xcd, END as u8];
    let behind = INT_END.iter().cycle().take(32);
    for (at, byte) in (CODE..).zip(bytes.iter().chain(behind)) {
        // SAFETY: the window is RAM that nobody else uses.
        unsafe { (at as *mut u8).write_volatile(*byte) };
    }
}
