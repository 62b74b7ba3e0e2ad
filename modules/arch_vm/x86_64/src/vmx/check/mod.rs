// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Which field made an entry fail.
//!
//! The hardware only says that some was wrong: of the controls, of the host's
//! state, or of the guest's. The checks that a guest or a bug of ours could fail
//! are made again here, in the order of the manual; the encoding of the first field
//! that fails one goes into the upper half of the reported reason. For registers
//! that were to be loaded from a list it is the place in the list.
//!
//! Spec: Intel SDM 3, "VM Entries", "VM-Instruction Error Numbers".

mod controls;
mod guest;
mod host;
#[cfg(test)]
mod tests;

use super::{
    fields::{Field, QUALIFICATION},
    vmcs,
};
use crate::regs;

/// The reasons of exits from an entry that was begun.
const INVALID_GUEST_STATE: u32 = 33;
const MSR_LOADING: u32 = 34;
/// The errors of an entry that was not.
const INVALID_CONTROLS: u32 = 7;
const INVALID_HOST_STATE: u32 = 8;

/// Physical addresses: how many bits they have, in the low byte of eax.
const ADDRESS_SIZES: u32 = 0x8000_0008;
const FRAME_BITS: u64 = 0xfff;

/// A field's encoding, and whether it fails a check.
type Check = (u32, bool);

/// Returns what is reported of an entry that was begun.
#[cold]
pub(super) fn failure(reason: u32) -> u64 {
    let field = match reason {
        INVALID_GUEST_STATE => guest::wrong_field(),
        MSR_LOADING => Some(vmcs::read(QUALIFICATION) as u32),
        _ => None,
    };
    named(field, reason)
}

/// Returns what is reported of an entry that was refused with an error's number.
#[cold]
pub(super) fn refusal(error: u32, task_class: u8) -> u64 {
    let field = match error {
        INVALID_CONTROLS => controls::wrong_field(task_class),
        INVALID_HOST_STATE => host::wrong_field(),
        _ => None,
    };
    named(field, error)
}

fn named(field: Option<u32>, reason: u32) -> u64 {
    u64::from(field.unwrap_or(0)) << u32::BITS | u64::from(reason)
}

fn fails<T>(field: Field<T>, is_wrong: bool) -> Check {
    (field.encoding, is_wrong)
}

/// Returns the first field that fails its check.
fn first(checks: impl IntoIterator<Item = Check>) -> Option<u32> {
    let mut wrong = checks.into_iter().filter(|(_, is_wrong)| *is_wrong);
    wrong.next().map(|(encoding, _)| encoding)
}

fn is_canonical(address: u64) -> bool {
    let high = (address as i64) >> 47;
    high == 0 || high == -1
}

/// Tells whether an address is one of this CPU.
fn is_physical(address: u64) -> bool {
    let [sizes, ..] = regs::cpuid(ADDRESS_SIZES, 0);
    address.checked_shr(sizes & 0xff).unwrap_or(0) == 0
}

fn is_frame(address: u64) -> bool {
    is_physical(address) && address & FRAME_BITS == 0
}
