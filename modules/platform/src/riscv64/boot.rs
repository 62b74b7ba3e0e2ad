// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The first instructions of each hart.
//!
//! Turns on a boot page table that maps the first 4 GiB where they are and
//! 256 GiB at the linear offset, then continues in Rust at linear addresses.
//! ArceOS replaces the table by one with real permissions soon after.
//! Spec: RISC-V Privileged, "Sv39"; RISC-V SBI, "Hart State Management".

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use axconfig::plat::{BOOT_STACK_SIZE, PHYS_VIRT_OFFSET};
use axplat::mem::Aligned4K;

use crate::init::machine;

const GIB_SHIFT: usize = 30;
const IDENTITY_GIB: usize = 4;
const LINEAR_SLOT: usize = 256;
/// Valid, readable, writable, executable, global, accessed, dirty.
const LEAF: u64 = 0xef;
const SATP_SV39: usize = 8 << 60;

#[unsafe(link_section = ".bss.stack")]
static mut BOOT_STACK: [u8; BOOT_STACK_SIZE] = [0; BOOT_STACK_SIZE];

#[unsafe(link_section = ".data")]
static BOOT_TABLE: Aligned4K<[u64; 512]> = Aligned4K::new(boot_table());

/// Written before .bss is cleared, so it must not lie there.
#[unsafe(link_section = ".data")]
static BOOT_HART: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Not 0 once a hart is the primary.
#[unsafe(link_section = ".data")]
static CLAIMED: AtomicU32 = AtomicU32::new(0);

/// The top of the stack, by its physical address, of the hart that is started now.
#[unsafe(link_section = ".data")]
static STARTING_STACK: AtomicUsize = AtomicUsize::new(0);

const fn boot_table() -> [u64; 512] {
    let mut table = [0; 512];
    let mut gib = 0;
    while gib < LINEAR_SLOT {
        let leaf = ((gib << GIB_SHIFT) >> 2) as u64 | LEAF;
        table[LINEAR_SLOT + gib] = leaf;
        if gib < IDENTITY_GIB {
            table[gib] = leaf;
        }
        gib += 1;
    }
    table
}

/// Returns the hart that booted.
pub(super) fn boot_hart() -> usize {
    BOOT_HART.load(Ordering::Relaxed)
}

/// Entry of the hart that the firmware boots: a0 is its id, a1 the device tree.
///
/// Firmware has been seen (OpenSBI 1.1) to start another hart here instead of
/// where `start_cpu` said, when that hart woke early. Only the first to come is
/// the primary; a later one takes the stack that was meant for it.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.boot")]
unsafe extern "C" fn _start() -> ! {
    core::arch::naked_asm!("
        la      t0, {claimed}
        li      t1, 1
        .option push
        .option arch, +a
        amoswap.w.aq t1, t1, (t0)
        .option pop
        beqz    t1, 2f
        la      t0, {starting_stack}
        ld      a1, (t0)
        j       {start_secondary}
    2:
        la      sp, {stack}
        li      t0, {stack_size}
        add     sp, sp, t0
        la      t2, {primary}
        j       {enter_linear}",
        claimed = sym CLAIMED,
        starting_stack = sym STARTING_STACK,
        start_secondary = sym start_secondary,
        stack = sym BOOT_STACK,
        stack_size = const BOOT_STACK_SIZE,
        primary = sym primary,
        enter_linear = sym enter_linear,
    )
}

/// Remembers the stack of the hart that is started next.
pub(super) fn set_starting_stack(stack_top: usize) {
    STARTING_STACK.store(stack_top, Ordering::SeqCst);
}

/// Entry of the harts that `start_cpu` starts: a0 is the id, a1 the top of the stack.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn start_secondary() -> ! {
    core::arch::naked_asm!("
        mv      sp, a1
        la      t2, {secondary}
        j       {enter_linear}",
        secondary = sym secondary,
        enter_linear = sym enter_linear,
    )
}

/// Turns paging on and goes to t2 at its linear address, keeping a0 and a1.
#[unsafe(naked)]
unsafe extern "C" fn enter_linear() -> ! {
    core::arch::naked_asm!("
        la      t0, {table}
        srli    t0, t0, 12
        li      t1, {sv39}
        or      t0, t0, t1
        sfence.vma
        csrw    satp, t0
        sfence.vma
        li      t0, {offset}
        add     sp, sp, t0
        add     t2, t2, t0
        jr      t2",
        table = sym BOOT_TABLE,
        sv39 = const SATP_SV39,
        offset = const PHYS_VIRT_OFFSET,
    )
}

unsafe extern "C" fn primary(hart: usize, fdt: usize) -> ! {
    BOOT_HART.store(hart, Ordering::Relaxed);
    axplat::call_main(0, fdt)
}

unsafe extern "C" fn secondary(hart: usize) -> ! {
    let cpu = machine()
        .cpu_of(hart)
        .expect("only known harts are started");
    axplat::call_secondary_main(cpu)
}
