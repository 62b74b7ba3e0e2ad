// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The world switch where there is no SVM: a guest leaves at once.
//!
//! Same functions as `entry`, so that what is above compiles and is tested on
//! any machine.

use axvm::AxVMHal;

use super::{Svm, fast};
use crate::vcpu::VCpu;

/// Leaves the guest at once, with the exit that its block has.
///
/// # Safety
///
/// `vcpu` is valid, and nobody else uses it.
pub(super) unsafe fn enter<H: AxVMHal>(vcpu: *mut VCpu<H, Svm<H>>, _guest: u64, _host: u64) {
    // SAFETY: it is the caller's.
    let vcpu = unsafe { &mut *vcpu };
    if let Some(vcpu) = fast::answer(vcpu) {
        // The real one would go back into the guest.
        vcpu.backend.set_answered();
    }
}

/// There is nothing to store.
///
/// # Safety
///
/// None is needed here; the real one has duties.
pub(super) unsafe fn save_host(_block: u64) {}
