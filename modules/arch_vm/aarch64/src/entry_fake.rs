// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The world switch where there is no EL2: a guest leaves at once.
//!
//! Same functions as `entry`, so that what is above compiles and is tested on
//! any machine.

use crate::frame::{FloatRegisters, TrapFrame};

/// The host has no vectors.
pub(crate) fn remember_host_vectors() {}

/// The host has no vectors.
pub(crate) fn host_vectors() -> u64 {
    0
}

/// Guests have no vectors.
pub(crate) fn vectors() -> u64 {
    0
}

/// Leaves the guest at once, as by an interrupt.
///
/// # Safety
///
/// None is needed here; the real one has duties.
pub(crate) unsafe fn enter(_frame: &mut TrapFrame) -> u64 {
    1
}

/// There are no floating-point registers to store.
pub(crate) fn store_float(_to: &mut FloatRegisters) {}

/// There are no floating-point registers to load.
pub(crate) fn load_float(_from: &FloatRegisters) {}

/// There are no interrupts to close.
pub(crate) fn close_interrupts() -> u64 {
    0
}

/// There are no interrupts to open.
pub(crate) fn restore_interrupts(_daif: u64) {}
