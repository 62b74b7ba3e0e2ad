// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Which field of the guest's state is wrong.
//!
//! Spec: Intel SDM 3, "Checks on the Guest State Area".

use tock_registers::LocalRegisterCopy;

use super::{
    super::{
        controls::{Blocking, EVENT, EntryControls, RIGHTS},
        fields::{
            ACTIVITY, ENTRY_CONTROLS, ENTRY_EVENT, Field, GUEST_CR0, GUEST_CR3, GUEST_CR4,
            GUEST_CS, GUEST_DR7, GUEST_DS, GUEST_EFER, GUEST_ES, GUEST_FS, GUEST_GDTR_BASE,
            GUEST_GDTR_LIMIT, GUEST_GS, GUEST_IDTR_BASE, GUEST_IDTR_LIMIT, GUEST_LDTR,
            GUEST_RFLAGS, GUEST_RIP, GUEST_SS, GUEST_TR, INTERRUPTIBILITY, LINK_POINTER,
            SegmentFields,
        },
        vmcs,
    },
    is_canonical,
};
use crate::regs::{CR0, CR4, EFER, RFLAGS, bits};

/// Returns the encoding of the first field that fails a check.
pub(super) fn wrong_field() -> Option<u32> {
    control_registers()
        .or_else(segments)
        .or_else(tables)
        .or_else(rest)
}

fn fails<T>(field: Field<T>, is_wrong: bool) -> Option<u32> {
    is_wrong.then_some(field.encoding)
}

fn is_long() -> bool {
    EntryControls::from_bits_truncate(vmcs::read(ENTRY_CONTROLS)).contains(EntryControls::LONG_MODE)
}

fn control_registers() -> Option<u32> {
    let cr0 = bits::<CR0::Register>(vmcs::read(GUEST_CR0));
    let cr4 = bits::<CR4::Register>(vmcs::read(GUEST_CR4));
    let efer = bits::<EFER::Register>(vmcs::read(GUEST_EFER));
    let (pg, pe, pae) = (
        cr0.is_set(CR0::PG),
        cr0.is_set(CR0::PE),
        cr4.is_set(CR4::PAE),
    );
    let is_long = is_long();
    let nw_alone = cr0.is_set(CR0::NW) && !cr0.is_set(CR0::CD);
    fails(GUEST_CR0, pg && !pe || nw_alone || cr0.get() >> 32 != 0)
        .or_else(|| fails(GUEST_CR4, !cr4.is_set(CR4::VMXE) || is_long && !pae))
        .or_else(|| fails(GUEST_CR3, vmcs::read(GUEST_CR3) >> 52 != 0))
        .or_else(|| fails(GUEST_DR7, vmcs::read(GUEST_DR7) >> 32 != 0))
        .or_else(|| {
            let active = efer.is_set(EFER::LMA);
            let wrong = active != is_long || pg && active != efer.is_set(EFER::LME);
            fails(GUEST_EFER, wrong)
        })
}

fn segments() -> Option<u32> {
    let data = [GUEST_CS, GUEST_SS, GUEST_DS, GUEST_ES, GUEST_FS, GUEST_GS];
    let rights = |fields: SegmentFields| {
        LocalRegisterCopy::<u32, RIGHTS::Register>::new(vmcs::read(fields.rights))
    };
    let task = rights(GUEST_TR);
    let busy = match is_long() {
        true => task.read(RIGHTS::TYPE) == 11,
        false => matches!(task.read(RIGHTS::TYPE), 3 | 11),
    };
    let wrong_task = !busy || !task.is_set(RIGHTS::PRESENT) || task.is_set(RIGHTS::UNUSABLE);
    let code = rights(GUEST_CS);
    let both_sizes = code.is_set(RIGHTS::LONG) && code.is_set(RIGHTS::BIG);
    fails(GUEST_CS.rights, both_sizes && is_long())
        .or_else(|| {
            data.into_iter().find_map(|fields| {
                let rights = rights(fields);
                let is_present = rights.is_set(RIGHTS::PRESENT);
                fails(
                    fields.rights,
                    !rights.is_set(RIGHTS::UNUSABLE) && !is_present,
                )
            })
        })
        .or_else(|| fails(GUEST_TR.rights, wrong_task))
        .or_else(|| {
            [GUEST_FS, GUEST_GS, GUEST_TR, GUEST_LDTR]
                .into_iter()
                .find_map(|fields| fails(fields.base, !is_canonical(vmcs::read(fields.base))))
        })
}

fn tables() -> Option<u32> {
    [
        (GUEST_GDTR_BASE, GUEST_GDTR_LIMIT),
        (GUEST_IDTR_BASE, GUEST_IDTR_LIMIT),
    ]
    .into_iter()
    .find_map(|(base, limit)| {
        fails(base, !is_canonical(vmcs::read(base)))
            .or_else(|| fails(limit, vmcs::read(limit) >> 16 != 0))
    })
}

fn rest() -> Option<u32> {
    let flags = bits::<RFLAGS::Register>(vmcs::read(GUEST_RFLAGS));
    let event = LocalRegisterCopy::<u32, EVENT::Register>::new(vmcs::read(ENTRY_EVENT));
    let blocking = Blocking::from_bits_truncate(vmcs::read(INTERRUPTIBILITY));
    let is_external = event.is_set(EVENT::VALID) && event.matches_all(EVENT::KIND::External);
    let closed = !flags.is_set(RFLAGS::INTERRUPT);
    let shadow = Blocking::STI | Blocking::MOV_SS;
    let rip = vmcs::read(GUEST_RIP);
    fails(GUEST_RIP, is_long() && !is_canonical(rip))
        .or_else(|| {
            let wrong = !flags.is_set(RFLAGS::ALWAYS_ONE) || is_external && closed;
            fails(GUEST_RFLAGS, wrong)
        })
        .or_else(|| fails(ACTIVITY, vmcs::read(ACTIVITY) > 3))
        .or_else(|| {
            let wrong = blocking.contains(shadow)
                || closed && blocking.contains(Blocking::STI)
                || is_external && blocking.intersects(shadow);
            fails(INTERRUPTIBILITY, wrong)
        })
        .or_else(|| fails(LINK_POINTER, vmcs::read(LINK_POINTER) != u64::MAX))
}
