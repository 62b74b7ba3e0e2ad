// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the vCPUs of one VM share.
//!
//! Made by `vm` before any vCPU, and never changed but through the locks and
//! atomics inside.

use alloc::{sync::Arc, vec::Vec};

use axvm::{AxVMHal, CpuPower, Ram, VCpuControl, VCpuId, vmid::VmTlb};

use crate::{
    irqchip::{Gic, vcpu_of_affinity},
    psci::Cpus,
    stage2::Format,
    sysreg::IdRegisters,
};

/// One VM's common parts.
pub(crate) struct Machine<H: AxVMHal> {
    pub(crate) hal: H,
    pub(crate) ram: Arc<Ram<H>>,
    pub(crate) gic: Arc<Gic<H>>,
    pub(crate) controls: Vec<Arc<VCpuControl<H>>>,
    pub(crate) ids: IdRegisters,
    pub(crate) tlb: VmTlb,
    pub(crate) format: Format,
    /// ID_AA64MMFR0_EL1.PARange.
    pub(crate) pa_range: u64,
    /// What the guest's virtual counter is behind the physical one.
    pub(crate) counter_offset: u64,
}

/// The vCPUs as one of them sees them.
pub(crate) struct Siblings<'a, H: AxVMHal> {
    pub(crate) machine: &'a Machine<H>,
    pub(crate) own: VCpuId,
}

impl<H: AxVMHal> Cpus for Siblings<'_, H> {
    fn power_of(&self, affinity: u64) -> Option<CpuPower> {
        let control = self.machine.controls.get(vcpu_of_affinity(affinity)?)?;
        Some(control.power())
    }

    fn others_are_off(&self) -> bool {
        let others = self.machine.controls.iter();
        others
            .filter(|control| control.id() != self.own)
            .all(|control| control.power() == CpuPower::Off)
    }
}
