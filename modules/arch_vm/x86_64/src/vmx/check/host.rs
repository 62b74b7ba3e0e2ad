// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Which field of the host's state is wrong.
//!
//! Spec: Intel SDM 3, "Checks on Host Control Registers, MSRs, and SSP", "Checks on
//! Host Segment and Descriptor-Table Registers", "Checks Related to Address-Space
//! Size".

use super::{
    super::{
        features,
        fields::{
            HOST_CR0, HOST_CR3, HOST_CR4, HOST_CS, HOST_DS, HOST_EFER, HOST_ES, HOST_FS,
            HOST_FS_BASE, HOST_GDTR_BASE, HOST_GS, HOST_GS_BASE, HOST_IDTR_BASE, HOST_PAT,
            HOST_RIP, HOST_SS, HOST_SYSENTER_EIP, HOST_SYSENTER_ESP, HOST_TR, HOST_TR_BASE,
        },
        vmcs,
    },
    Check, fails, first, is_canonical, is_physical,
};
use crate::{
    msr::is_page_attributes,
    regs::{CR4, EFER, bits},
};

/// What selects by privilege level or from a local table.
const NOT_OF_A_HOST: u16 = 7;

/// Returns the encoding of the first field that fails a check.
pub(super) fn wrong_field() -> Option<u32> {
    first(registers())
        .or_else(|| first(selectors()))
        .or_else(|| first(addresses()))
}

fn registers() -> [Check; 5] {
    let cr4 = vmcs::read(HOST_CR4);
    let efer = bits::<EFER::Register>(vmcs::read(HOST_EFER));
    let is_long = efer.is_set(EFER::LMA) && efer.is_set(EFER::LME);
    [
        fails(HOST_CR0, !features::keeps_cr0(vmcs::read(HOST_CR0))),
        fails(
            HOST_CR4,
            !features::keeps_cr4(cr4) || cr4 & CR4::PAE::SET.value == 0,
        ),
        fails(HOST_CR3, !is_physical(vmcs::read(HOST_CR3))),
        fails(HOST_PAT, !is_page_attributes(vmcs::read(HOST_PAT))),
        fails(HOST_EFER, !is_long),
    ]
}

fn selectors() -> impl Iterator<Item = Check> {
    let all = [
        (HOST_ES, true),
        (HOST_CS, false),
        (HOST_SS, true),
        (HOST_DS, true),
        (HOST_FS, true),
        (HOST_GS, true),
        (HOST_TR, false),
    ];
    all.into_iter().map(|(field, may_be_null)| {
        let selector = vmcs::read(field);
        let is_null = selector == 0 && !may_be_null;
        fails(field, selector & NOT_OF_A_HOST != 0 || is_null)
    })
}

fn addresses() -> impl Iterator<Item = Check> {
    let all = [
        HOST_SYSENTER_ESP,
        HOST_SYSENTER_EIP,
        HOST_FS_BASE,
        HOST_GS_BASE,
        HOST_TR_BASE,
        HOST_GDTR_BASE,
        HOST_IDTR_BASE,
        HOST_RIP,
    ];
    all.into_iter()
        .map(|field| fails(field, !is_canonical(vmcs::read(field))))
}
