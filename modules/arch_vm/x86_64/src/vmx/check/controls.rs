// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Which control is wrong.
//!
//! Spec: Intel SDM 3, "Checks on VMX Controls".

use tock_registers::LocalRegisterCopy;

use super::{
    super::{
        controls::{EVENT, POINTER, Pin, Primary, Secondary},
        features::{self, Translation},
        fields::{
            APIC_ACCESS, ENTRY_ERROR, ENTRY_EVENT, EPT_POINTER, GUEST_CR0, MSR_BITMAP,
            PIN_CONTROLS, PRIMARY_CONTROLS, SECONDARY_CONTROLS, TPR_THRESHOLD, VIRTUAL_APIC, VPID,
        },
        vmcs,
    },
    Check, fails, first, is_frame, is_physical,
};
use crate::regs::{CR0, bits};

/// The exceptions that have an error code: 8, 10 to 14, 17.
const WITH_ERROR: u32 = 1 << 8 | 0x1f << 10 | 1 << 17;
const EXCEPTIONS: u32 = 32;
const VECTOR_NMI: u32 = 2;
/// What an event and its error code do not have.
const EVENT_RESERVED: u32 = 0x7fff_f000;
const ERROR_RESERVED: u32 = 0xffff_8000;

/// Returns the encoding of the first field that fails a check; CR8 as it is.
pub(super) fn wrong_field(task_class: u8) -> Option<u32> {
    first(words())
        .or_else(|| first(combinations()))
        .or_else(|| first(values(task_class)))
        .or_else(|| first(event()))
}

/// What the capability registers say.
fn words() -> impl Iterator<Item = Check> {
    let words = features::words().into_iter();
    words.map(|(field, word)| fails(field, !word.allows(vmcs::read(field))))
}

/// Controls that need one another, or exclude one another.
fn combinations() -> [Check; 3] {
    let pin = Pin::from_bits_retain(vmcs::read(PIN_CONTROLS));
    let primary = Primary::from_bits_retain(vmcs::read(PRIMARY_CONTROLS));
    let secondary = secondary();
    let nmis_without_exits = !pin.contains(Pin::NMI) && pin.contains(Pin::VIRTUAL_NMIS);
    let window_without_nmis =
        !pin.contains(Pin::VIRTUAL_NMIS) && primary.contains(Primary::NMI_WINDOW);
    let of_shadow = Secondary::X2APIC | Secondary::APIC_REGISTERS | Secondary::INTERRUPT_DELIVERY;
    let without_shadow = !primary.contains(Primary::TPR_SHADOW) && secondary.intersects(of_shadow);
    let both_accesses = secondary.contains(Secondary::X2APIC | Secondary::APIC_ACCESSES);
    let delivers_without_exits =
        secondary.contains(Secondary::INTERRUPT_DELIVERY) && !pin.contains(Pin::EXTERNAL_INTERRUPT);
    let unrestricted_without_ept =
        secondary.contains(Secondary::UNRESTRICTED_GUEST) && !secondary.contains(Secondary::EPT);
    [
        fails(PIN_CONTROLS, nmis_without_exits || delivers_without_exits),
        fails(PRIMARY_CONTROLS, window_without_nmis),
        fails(
            SECONDARY_CONTROLS,
            without_shadow || both_accesses || unrestricted_without_ept,
        ),
    ]
}

fn secondary() -> Secondary {
    let primary = Primary::from_bits_retain(vmcs::read(PRIMARY_CONTROLS));
    match primary.contains(Primary::SECONDARY) {
        true => Secondary::from_bits_retain(vmcs::read(SECONDARY_CONTROLS)),
        false => Secondary::empty(),
    }
}

/// The fields that controls make count.
fn values(task_class: u8) -> [Check; 6] {
    let primary = Primary::from_bits_retain(vmcs::read(PRIMARY_CONTROLS));
    let secondary = secondary();
    let threshold = vmcs::read(TPR_THRESHOLD);
    let has_threshold =
        primary.contains(Primary::TPR_SHADOW) && !secondary.contains(Secondary::INTERRUPT_DELIVERY);
    let is_above =
        !secondary.contains(Secondary::APIC_ACCESSES) && threshold > u32::from(task_class);
    let no_frame = |is_used: bool, field| fails(field, is_used && !is_frame(vmcs::read(field)));
    [
        no_frame(primary.contains(Primary::MSR_BITMAPS), MSR_BITMAP),
        no_frame(primary.contains(Primary::TPR_SHADOW), VIRTUAL_APIC),
        fails(
            TPR_THRESHOLD,
            has_threshold && (threshold >> 4 != 0 || is_above),
        ),
        no_frame(secondary.contains(Secondary::APIC_ACCESSES), APIC_ACCESS),
        fails(
            VPID,
            secondary.contains(Secondary::VPID) && vmcs::read(VPID) == 0,
        ),
        fails(
            EPT_POINTER,
            secondary.contains(Secondary::EPT) && !is_ept_pointer(vmcs::read(EPT_POINTER)),
        ),
    ]
}

fn is_ept_pointer(value: u64) -> bool {
    let pointer = bits::<POINTER::Register>(value);
    let translation = features::translation();
    let has_type = pointer.matches_all(POINTER::TYPE::WriteBack)
        && translation.contains(Translation::WRITE_BACK);
    let has_flags = !pointer.is_set(POINTER::ACCESSED_DIRTY)
        || translation.contains(Translation::ACCESSED_DIRTY);
    has_type
        && has_flags
        && pointer.matches_all(POINTER::WALK::FourLevels + POINTER::RESERVED::CLEAR)
        && is_physical(value)
}

/// What is delivered by the entry.
fn event() -> [Check; 2] {
    let value = vmcs::read(ENTRY_EVENT);
    let event = LocalRegisterCopy::<u32, EVENT::Register>::new(value);
    let (vector, error) = (event.read(EVENT::VECTOR), event.is_set(EVENT::HAS_ERROR));
    let is_protected = bits::<CR0::Register>(vmcs::read(GUEST_CR0)).is_set(CR0::PE);
    let (vector_fits, may_have_error) = match event.read_as_enum(EVENT::KIND) {
        Some(EVENT::KIND::Value::External) => (true, false),
        Some(EVENT::KIND::Value::Nmi) => (vector == VECTOR_NMI, false),
        Some(EVENT::KIND::Value::Exception) => (vector < EXCEPTIONS, true),
        Some(EVENT::KIND::Value::Int1) | None => (false, false),
    };
    let has_code = WITH_ERROR.checked_shr(vector).unwrap_or(0) & 1 != 0;
    let wants_error = may_have_error && is_protected && has_code;
    let is_wrong = !vector_fits || error != wants_error || value & EVENT_RESERVED != 0;
    let is_valid = event.is_set(EVENT::VALID);
    let code = vmcs::read(ENTRY_ERROR);
    [
        fails(ENTRY_EVENT, is_valid && is_wrong),
        fails(ENTRY_ERROR, is_valid && error && code & ERROR_RESERVED != 0),
    ]
}
