// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What an exit restores of this CPU.
//!
//! Written when a vCPU comes to a CPU: what is the same for as long as it stays.
//!
//! Spec: Intel SDM 3, "Host-State Area", "Checks on Host Control Registers, MSRs,
//! and SSP", "Loading Host State".

use super::{
    cpu, entry,
    fields::{
        HOST_CR0, HOST_CR3, HOST_CR4, HOST_CS, HOST_DS, HOST_EFER, HOST_ES, HOST_FS, HOST_FS_BASE,
        HOST_GDTR_BASE, HOST_GS, HOST_GS_BASE, HOST_IDTR_BASE, HOST_PAT, HOST_RIP, HOST_SS,
        HOST_SYSENTER_CS, HOST_SYSENTER_EIP, HOST_SYSENTER_ESP, HOST_TR, HOST_TR_BASE,
    },
    vmcs,
};
use crate::regs::{self, Msr};

/// Writes what an exit restores of this CPU.
pub(super) fn write_host() {
    let host = cpu::host();
    let [es, cs, ss, ds, fs, gs, tr] = host.selectors;
    // Exits want these without privilege level.
    let selectors = [
        (HOST_ES, es),
        (HOST_CS, cs),
        (HOST_SS, ss),
        (HOST_DS, ds),
        (HOST_FS, fs),
        (HOST_GS, gs),
        (HOST_TR, tr),
    ];
    for (field, selector) in selectors {
        vmcs::write(field, selector & !7);
    }
    vmcs::write(HOST_CR0, host.cr0);
    vmcs::write(HOST_CR3, host.cr3);
    vmcs::write(HOST_CR4, host.cr4);
    vmcs::write(HOST_FS_BASE, regs::read_msr(Msr::FS_BASE));
    vmcs::write(HOST_GS_BASE, regs::read_msr(Msr::GS_BASE));
    vmcs::write(HOST_TR_BASE, host.task);
    vmcs::write(HOST_GDTR_BASE, host.gdt);
    vmcs::write(HOST_IDTR_BASE, host.idt);
    vmcs::write(HOST_PAT, regs::read_msr(Msr::PAT));
    vmcs::write(HOST_EFER, regs::read_msr(Msr::EFER));
    vmcs::write(HOST_SYSENTER_CS, 0);
    vmcs::write(HOST_SYSENTER_ESP, 0);
    vmcs::write(HOST_SYSENTER_EIP, 0);
    vmcs::write(HOST_RIP, entry::exit_address());
}
