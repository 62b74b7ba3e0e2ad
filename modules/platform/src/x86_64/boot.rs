// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The first instructions of each CPU.
//!
//! The loader enters in 32-bit protected mode, other CPUs in real mode on the
//! page that `smp` prepares. Both go to long mode on a boot table that maps
//! the first 4 GiB where they are and at the linear offset, then to Rust.
//! ArceOS replaces the table by one with real permissions soon after.
//! Spec: Multiboot Specification 0.6.96; AMD APM volume 2, "Long-Mode Activation".

use core::arch::global_asm;

use axconfig::plat::{BOOT_STACK_SIZE, KERNEL_BASE_PADDR, PHYS_MEMORY_SIZE, PHYS_VIRT_OFFSET};
use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};

use super::apic;
use crate::init::machine;

/// Memory information, and the load addresses in the header.
const HEADER_FLAGS: u32 = 0x0001_0002;
const HEADER_MAGIC: u32 = 0x1bad_b002;
const LOADER_MAGIC: u32 = 0x2bad_b002;

const CR0: u64 = Cr0Flags::PROTECTED_MODE_ENABLE.bits()
    | Cr0Flags::MONITOR_COPROCESSOR.bits()
    | Cr0Flags::NUMERIC_ERROR.bits()
    | Cr0Flags::WRITE_PROTECT.bits()
    | Cr0Flags::PAGING.bits();
const CR4: u64 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits() | Cr4Flags::PAGE_GLOBAL.bits();
const EFER_MSR: u32 = 0xc000_0080;
const EFER: u64 = EferFlags::LONG_MODE_ENABLE.bits() | EferFlags::NO_EXECUTE_ENABLE.bits();

#[unsafe(link_section = ".bss.stack")]
static mut BOOT_STACK: [u8; BOOT_STACK_SIZE] = [0; BOOT_STACK_SIZE];

global_asm!(
    include_str!("boot.S"),
    header_magic = const HEADER_MAGIC,
    header_flags = const HEADER_FLAGS,
    // ArceOS's whole memory counts as the image, so that modules are put behind it.
    memory_end = const KERNEL_BASE_PADDR + PHYS_MEMORY_SIZE,
    offset = const PHYS_VIRT_OFFSET,
    efer_msr = const EFER_MSR,
    efer = const EFER,
    cr0 = const CR0,
    cr4 = const CR4,
    stack = sym BOOT_STACK,
    stack_size = const BOOT_STACK_SIZE,
    primary = sym primary,
    secondary = sym secondary,
);

unsafe extern "C" fn primary(magic: u32, info: u32) -> ! {
    if magic != LOADER_MAGIC {
        // There is no console yet, and no loader that we could believe.
        loop {
            axcpu::asm::halt();
        }
    }
    axplat::call_main(0, info as usize)
}

unsafe extern "C" fn secondary() -> ! {
    let cpu = machine()
        .cpu_of(apic::id_of_this_cpu())
        .expect("only known CPUs are started");
    axplat::call_secondary_main(cpu)
}
