// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Typed access to the VMCS that this CPU has loaded.
//!
//! Callers hold the vCPU on this CPU, with its VMCS loaded.

use super::{
    cpu,
    fields::{Field, SegmentFields, Width},
};
use crate::pc::boot::Segment;

/// Reads a field.
#[inline]
pub(super) fn read<T: Width>(field: Field<T>) -> T {
    T::narrow(cpu::read(field.encoding))
}

/// Writes a field.
#[inline]
pub(super) fn write<T: Width>(field: Field<T>, value: T) {
    cpu::write(field.encoding, value.widen());
}

/// Changes a field.
#[inline]
pub(super) fn modify<T: Width>(field: Field<T>, change: impl FnOnce(T) -> T) {
    write(field, change(read(field)));
}

/// Writes a segment register.
pub(super) fn write_segment(fields: SegmentFields, segment: &Segment) {
    write(fields.selector, segment.selector);
    write(fields.base, segment.base);
    write(fields.limit, segment.limit);
    write(fields.rights, segment.rights.into());
}
