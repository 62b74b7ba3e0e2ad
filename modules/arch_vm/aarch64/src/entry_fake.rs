// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The world switch where there is no EL2: a guest leaves at once.
//!
//! Same functions as `entry`, so that what is above compiles and is tested on
//! any machine.

use axvm::AxVMHal;

use crate::{
    fast::{self, Left},
    frame::FloatRegisters,
    vcpu::Aarch64VCpu,
};

/// The host has no vectors.
pub(crate) fn remember_host_vectors() {}

/// Leaves the guest at once: by an interrupt, or else as the registers say.
///
/// # Safety
///
/// `vcpu` is valid, and nobody else uses it; the real one has more duties.
pub(crate) unsafe fn enter<H: AxVMHal>(vcpu: *mut Aarch64VCpu<H>) -> Left {
    // SAFETY: the caller's promise.
    let vcpu = unsafe { &mut *vcpu };
    match (fast::finish_interrupt(vcpu), fast::answer(vcpu)) {
        (Left::NOTHING, Left::NOTHING) => Left::ENTRY,
        (Left::NOTHING, _) => fast::finish(vcpu),
        (left, _) => left,
    }
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
