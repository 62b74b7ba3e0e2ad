// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! QEMU's riscv64 virt machine (and others with SBI, Sv39 and a 16550).
//!
//! Boots in HS mode from OpenSBI with the hart id and the device tree in a0
//! and a1. Spec: RISC-V Privileged; RISC-V SBI.

mod boot;
pub(crate) mod console;
mod front;
pub(crate) mod irq;
pub(crate) mod power;
pub(crate) mod time;

use core::ptr::NonNull;

use fdt_parser::Fdt;

use crate::{fdt, machine::Machine, mem::linear};

/// RAM outside ArceOS's that it must be able to reach: none.
pub(crate) const MAPPED_RESERVED: &[(usize, usize)] = &[];

/// Describes the machine from the device tree at `fdt_address`.
pub(crate) fn describe(fdt_address: usize) -> Machine {
    let tree = NonNull::new(linear(fdt_address) as *mut u8)
        .and_then(|start| Fdt::from_ptr(start).ok())
        .expect("the firmware passes a device tree");
    fdt::describe(&tree, fdt_address, boot::boot_hart())
}

/// Forgets this CPU's cached translations.
pub(crate) fn flush_tlb() {
    axcpu::asm::flush_tlb(None);
}
