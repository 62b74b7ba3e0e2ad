// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The first instructions of each CPU.
//!
//! Checks that the CPU is at EL2 and has VHE, turns E2H on, then the MMU with
//! a boot table that maps 512 GiB both where they are and at the linear
//! offset, and continues in Rust at linear addresses. ArceOS replaces the
//! table by one with real permissions soon after.
//! Spec: Linux "Booting AArch64 Linux" (image header); Arm Architecture
//! Reference Manual, "HCR_EL2", "VMSAv8-64".

use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use axconfig::{
    devices::UART_PADDR,
    plat::{BOOT_STACK_SIZE, PHYS_MEMORY_SIZE, PHYS_VIRT_OFFSET},
};
use axplat::mem::Aligned4K;

use crate::init::machine;

const GIB_SHIFT: usize = 30;
const RAM_GIB: core::ops::Range<usize> = 1..256;
const BLOCK: u64 = 0b01;
const TABLE: u64 = 0b11;
const NORMAL: u64 = 1 << 2;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const ACCESSED: u64 = 1 << 10;
const NEVER_EXECUTE: u64 = 0b11 << 53;

const IMAGE_FLAGS_4K_ANYWHERE: usize = 0b1010;
/// E2H | RW | AMO | IMO | FMO.
const HCR: u64 = 1 << 34 | 1 << 31 | 0b111 << 3;
/// Floating point is not trapped at EL2 (the layout under E2H).
const CPTR: u64 = 0b11 << 20;
const AFFINITY: u64 = 0xff_00ff_ffff;

#[unsafe(link_section = ".bss.stack")]
static mut BOOT_STACK: [u8; BOOT_STACK_SIZE] = [0; BOOT_STACK_SIZE];

/// Entry 0 is written by the boot code: an address is not a constant.
#[unsafe(link_section = ".data")]
static mut BOOT_ROOT: Aligned4K<[u64; 512]> = Aligned4K::new([0; 512]);

#[unsafe(link_section = ".data")]
static BOOT_BLOCKS: Aligned4K<[u64; 512]> = Aligned4K::new(boot_blocks());

/// Devices lie in the first GiB and above 256 GiB, RAM between.
const fn boot_blocks() -> [u64; 512] {
    let mut table = [0; 512];
    let mut gib = 0;
    while gib < table.len() {
        let address = (gib << GIB_SHIFT) as u64;
        let kind = if gib >= RAM_GIB.start && gib < RAM_GIB.end {
            NORMAL | INNER_SHAREABLE
        } else {
            NEVER_EXECUTE
        };
        table[gib] = address | kind | ACCESSED | BLOCK;
        gib += 1;
    }
    table
}

/// Returns the affinity fields of this CPU's MPIDR.
pub(super) fn affinity() -> usize {
    (MPIDR_EL1.get() & AFFINITY) as usize
}

/// The image's header, as boot loaders of Linux read it.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.boot")]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!("
        b       {start}
        .long   0
        .quad   0                       // offset from a 2 MiB boundary
        .quad   {size}                  // memory that the image needs, with the heap
        .quad   {flags}
        .quad   0
        .quad   0
        .quad   0
        .ascii  \"ARM\\x64\"
        .long   0",
        start = sym start_primary,
        size = const PHYS_MEMORY_SIZE,
        flags = const IMAGE_FLAGS_4K_ANYWHERE,
    )
}

/// Entry of the CPU that the boot loader boots: x0 is the device tree.
#[unsafe(naked)]
unsafe extern "C" fn start_primary() -> ! {
    core::arch::naked_asm!("
        mov     x19, x0
        adrp    x8, {stack}
        add     x8, x8, :lo12:{stack}
        mov     x9, {stack_size}
        add     x8, x8, x9
        msr     spsel, #1
        mov     sp, x8
        mrs     x0, CurrentEL
        mrs     x1, ID_AA64MMFR1_EL1
        bl      {check}
        adrp    x8, {root}              // root[0] -> blocks
        add     x8, x8, :lo12:{root}
        adrp    x9, {blocks}
        add     x9, x9, :lo12:{blocks}
        orr     x9, x9, {table}
        str     x9, [x8]
        ldr     x20, ={primary}
        b       {enter_linear}",
        stack = sym BOOT_STACK,
        stack_size = const BOOT_STACK_SIZE,
        check = sym require_el2_with_vhe,
        root = sym BOOT_ROOT,
        blocks = sym BOOT_BLOCKS,
        table = const TABLE,
        primary = sym axplat::call_main,
        enter_linear = sym enter_linear,
    )
}

/// Entry of the CPUs that `start_cpu` starts: x0 is the top of the stack.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn start_secondary() -> ! {
    core::arch::naked_asm!("
        msr     spsel, #1
        mov     sp, x0
        ldr     x20, ={secondary}
        b       {enter_linear}",
        secondary = sym secondary,
        enter_linear = sym enter_linear,
    )
}

/// Turns VHE and the MMU on, then calls x20 with (0, x19).
#[unsafe(naked)]
unsafe extern "C" fn enter_linear() -> ! {
    core::arch::naked_asm!("
        ldr     x8, ={hcr}
        msr     hcr_el2, x8
        isb
        ldr     x8, ={cptr}
        msr     cptr_el2, x8
        msr     cntvoff_el2, xzr
        tlbi    alle2
        dsb     ish
        adrp    x0, {root}
        add     x0, x0, :lo12:{root}
        bl      {init_mmu}
        mov     x8, {offset}
        add     sp, sp, x8
        mov     x0, xzr
        mov     x1, x19
        mov     x29, xzr
        mov     x30, xzr
        br      x20",
        hcr = const HCR,
        cptr = const CPTR,
        root = sym BOOT_ROOT,
        init_mmu = sym axcpu::init::init_mmu,
        offset = const PHYS_VIRT_OFFSET,
    )
}

unsafe extern "C" fn secondary() -> ! {
    let cpu = machine()
        .cpu_of(affinity())
        .expect("only known CPUs are started");
    axplat::call_secondary_main(cpu)
}

const EL2: u64 = 2 << 2;
const VHE: u64 = 0xf << 8;

/// Stops with a message where a hypervisor cannot run. The MMU is off: no formatting here.
extern "C" fn require_el2_with_vhe(current_el: u64, mmfr1: u64) {
    if current_el == EL2 && mmfr1 & VHE != 0 {
        return;
    }
    let message: &[u8] = b"AxHive needs EL2 and VHE; on QEMU: -machine virt,virtualization=on \
        -cpu max (or neoverse-n1)\r\n";
    for &byte in message {
        // SAFETY: with the MMU off the data register of the UART is at its physical address.
        unsafe { (UART_PADDR as *mut u8).write_volatile(byte) };
    }
    loop {
        core::hint::spin_loop();
    }
}
