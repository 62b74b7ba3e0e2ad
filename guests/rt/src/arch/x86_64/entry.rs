// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Loader headers, the way to long mode, and which CPU this is.
//!
//! The boot CPU is entered in 32-bit protected mode by a multiboot 1 or PVH
//! loader, the others in real mode by SIPI, through a copy of `trampoline`.
//! EBP holds the loader's magic on the way, or 0 on the other CPUs. The GS base
//! points at the CPU's index.
//!
//! Spec: Multiboot 0.6.96, "OS image format", "Machine state"; Xen "x86/HVM direct
//! boot ABI"; Intel SDM 3, "Initializing IA-32e Mode".

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};

use super::{console, machine, port, smp as arch_smp, trap};
use crate::cpu::{STACK_BYTES, STACKS};
use crate::firmware::pvh;
use crate::machine::MAX_CPUS;

/// Where the other CPUs start: a page below 1 MiB.
pub const TRAMPOLINE: usize = 0x8000;
/// The code segment's selector.
pub const CODE_SELECTOR: u16 = 0x08;

const GS_BASE: u32 = 0xc000_0101;

static INDICES: [usize; MAX_CPUS] = {
    let mut indices = [0; MAX_CPUS];
    let mut i = 0;
    while i < MAX_CPUS {
        #[expect(clippy::indexing_slicing, reason = "checked when it is compiled")]
        {
            indices[i] = i;
        }
        i += 1;
    }
    indices
};

/// The index that the next CPU to start takes.
pub static NEXT_INDEX: AtomicU32 = AtomicU32::new(0);

global_asm!(
    r#"
    .pushsection .multiboot, "a"
    .balign 4
multiboot_header:
    .long   0x1badb002
    .long   0x00010003              // page alignment, memory map, addresses below
    .long   -(0x1badb002 + 0x00010003)
    .long   multiboot_header
    .long   __image_start
    .long   __load_end
    .long   __bss_end
    .long   multiboot_entry
    .popsection

    .pushsection .note.pvh, "a", @note
    .balign 4
    .long   4
    .long   8
    .long   18                      // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz  "Xen"
    .quad   pvh_entry
    .popsection

    .pushsection .bss.boot_tables, "aw", @nobits
    .balign 4096
pml4:
    .skip   4096
pdpt:
    .skip   4096
page_directories:
    .skip   4 * 4096
    .popsection

    .pushsection .rodata.gdt, "a"
    .balign 8
gdt:
    .quad   0
    .quad   0x00af9b000000ffff      // 0x08: 64-bit code
    .quad   0x00cf93000000ffff      // 0x10: data
    .quad   0x00cf9b000000ffff      // 0x18: 32-bit code
gdt_end:
gdt_pointer:
    .word   gdt_end - gdt - 1
    .long   gdt
    .popsection

    .pushsection .text.entry, "ax"
    .code32
    .globl  pvh_entry
pvh_entry:
    movl    ${pvh_magic}, %eax
multiboot_entry:
    cli
    cld
    movl    %eax, %ebp
    movl    $__bss_start, %edi
    movl    $__bss_end, %ecx
    subl    %edi, %ecx
    shrl    $2, %ecx
    xorl    %eax, %eax
    rep stosl

    movl    $pdpt, %eax
    orl     $3, %eax                // present, writable
    movl    %eax, pml4
    movl    $page_directories, %eax
    orl     $3, %eax
    movl    $pdpt, %edi
    movl    $4, %ecx
1:  movl    %eax, (%edi)
    addl    $4096, %eax
    addl    $8, %edi
    loop    1b
    movl    $page_directories, %edi
    movl    $0x83, %eax             // present, writable, 2 MiB
    movl    $2048, %ecx
2:  cmpl    $0xc0000083, %eax
    jne     3f
    orl     $0x18, %eax             // uncached from here on
3:  movl    %eax, (%edi)
    addl    $0x200000, %eax
    addl    $8, %edi
    loop    2b

to_long_mode:
    lgdtl   gdt_pointer
    movl    $pml4, %eax
    movl    %eax, %cr3
    movl    %cr4, %eax
    orl     $0x20, %eax             // PAE
    movl    %eax, %cr4
    movl    $0xc0000080, %ecx       // EFER.LME
    rdmsr
    orl     $0x100, %eax
    wrmsr
    movl    %cr0, %eax
    andl    $0x9fffffff, %eax       // caches on
    orl     $0x80010001, %eax       // PG, WP, PE
    movl    %eax, %cr0
    ljmpl   $0x08, $in_long_mode

protected_mode:
    movl    $0x10, %eax
    movw    %ax, %ds
    movw    %ax, %ss
    xorl    %ebp, %ebp
    jmp     to_long_mode

    .code64
in_long_mode:
    movl    $0x10, %eax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    xorl    %eax, %eax
    movw    %ax, %fs
    movw    %ax, %gs
    testl   %ebp, %ebp
    jz      4f
    leaq    {stacks} + {stack_bytes}(%rip), %rsp
    pushq   $0
    popfq
    movl    %ebp, %edi
    movl    %ebx, %esi
    call    {boot}

4:  movl    {next_index}(%rip), %edi
    leal    1(%rdi), %eax
    imull   ${stack_bytes}, %eax, %eax
    leaq    {stacks}(%rip), %rsp
    addq    %rax, %rsp
    pushq   $0
    popfq
    call    {secondary}

    .code16
    .globl  trampoline
trampoline:
    cli
    cld
    xorw    %ax, %ax
    movw    %ax, %ds
    lgdtl   {trampoline} + trampoline_gdt - trampoline
    movl    %cr0, %eax
    orl     $1, %eax
    movl    %eax, %cr0
    ljmpl   $0x18, $protected_mode
    .balign 4
trampoline_gdt:
    .word   gdt_end - gdt - 1
    .long   gdt
    .globl  trampoline_end
trampoline_end:
    .code64
    .popsection
    "#,
    pvh_magic = const pvh::MAGIC,
    trampoline = const TRAMPOLINE,
    stack_bytes = const STACK_BYTES,
    stacks = sym STACKS,
    next_index = sym NEXT_INDEX,
    boot = sym boot,
    secondary = sym secondary,
    options(att_syntax),
);

extern "C" fn boot(magic: u32, information: u32) -> ! {
    set_index(0);
    trap::init();
    console::init();
    crate::boot(machine::discover(magic, u64::from(information)))
}

extern "C" fn secondary(index: u32) -> ! {
    set_index(index as usize);
    trap::init();
    arch_smp::has_started(index);
    (crate::guest().secondary)(index as usize)
}

fn set_index(index: usize) {
    let slot = INDICES.get(index).unwrap_or(&INDICES[0]);
    // SAFETY: nothing but `cpu_index` uses GS.
    unsafe { port::write_msr(GS_BASE, core::ptr::from_ref(slot).addr() as u64) };
}

/// Returns what the boot CPU has as its GS base.
pub fn boot_cpu_base() -> u64 {
    (&raw const INDICES).addr() as u64
}

/// Returns the index of the CPU that asks.
pub fn cpu_index() -> usize {
    let index: usize;
    // SAFETY: the GS base points at one of `INDICES`.
    unsafe { asm!("mov {}, gs:[0]", out(reg) index, options(readonly, nostack)) };
    index
}

/// Returns the code that a CPU runs from `TRAMPOLINE` when it starts.
pub fn trampoline_code() -> &'static [u8] {
    unsafe extern "C" {
        static trampoline: u8;
        static trampoline_end: u8;
    }
    let start = &raw const trampoline;
    let length = (&raw const trampoline_end).addr() - start.addr();
    // SAFETY: both labels are in `.text`, in this order.
    unsafe { core::slice::from_raw_parts(start, length) }
}

/// Forgets what a CPU that starts would have taken; used before the next one.
pub fn offer_index(index: u32) {
    NEXT_INDEX.store(index, Ordering::SeqCst);
}
