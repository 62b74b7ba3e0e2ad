// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Starting CPUs and switching off by PSCI, called as SMC: we are at EL2.
//!
//! Spec: Arm Power State Coordination Interface.

use axplat::{
    mem::{va, virt_to_phys},
    time::{Duration, busy_wait},
};
use smccc::{Smc, psci};

use super::{boot::start_secondary, pci};
use crate::ExitStatus;

/// Starts the CPU of `affinity` on the stack that ends at physical address `stack_top`.
pub(crate) fn start_cpu(affinity: usize, stack_top: usize) {
    let entry = virt_to_phys(va!(start_secondary as *const () as usize)).as_usize();
    if let Err(error) = psci::cpu_on::<Smc>(affinity as u64, entry as u64, stack_top as u64) {
        log::error!("the firmware does not start CPU {affinity:#x}: {error:?}");
    }
}

/// Ends the machine; returns only if it cannot.
pub(crate) fn off(status: ExitStatus) {
    if status == ExitStatus::Failure {
        pci::report_failure();
        // QEMU ends a moment later; switching off at once would count as success.
        busy_wait(Duration::from_secs(1));
    }
    if let Err(error) = psci::system_off::<Smc>() {
        log::error!("the firmware does not switch off: {error:?}");
    }
}
