// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! QEMU's aarch64 virt machine at EL2.
//!
//! ArceOS runs at EL2 with VHE: HCR_EL2 = E2H | RW | IMO | FMO | AMO, and TGE
//! stays 0, so that entering a guest never toggles it. Under E2H the EL1 names
//! of the system registers reach EL2's, and ArceOS needs no change; per-CPU
//! data is in TPIDR_EL2, which no guest sees.
//!
//! One thing differs: with TGE = 0 the EL1 TLB instructions that ArceOS's page
//! tables issue act on guests' translations, not on EL2's. New mappings need
//! none; whoever changes tables or removes a mapping calls `platform::flush_tlb`.
//! Spec: Arm Architecture Reference Manual, "Virtualization Host Extensions".

mod boot;
pub(crate) mod console;
pub(crate) mod irq;
mod pci;
pub(crate) mod power;
pub(crate) mod time;

use core::{arch::asm, ptr::NonNull};

use fdt_parser::Fdt;

use crate::{fdt, machine::Machine, mem::linear};

/// RAM outside ArceOS's that it must be able to reach: none.
pub(crate) const MAPPED_RESERVED: &[(usize, usize)] = &[];

/// Describes the machine from the device tree at `fdt_address`.
pub(crate) fn describe(fdt_address: usize) -> Machine {
    let tree = NonNull::new(linear(fdt_address) as *mut u8)
        .and_then(|start| Fdt::from_ptr(start).ok())
        .expect("the boot loader passes a device tree");
    fdt::describe(&tree, fdt_address, boot::affinity())
}

/// Forgets this CPU's cached translations of EL2.
pub(crate) fn flush_tlb() {
    // SAFETY: invalidating cached translations changes no memory; the tables are in force.
    unsafe {
        asm!(
            "dsb ishst",
            "tlbi alle2",
            "dsb ish",
            "isb",
            options(nostack)
        )
    };
}
