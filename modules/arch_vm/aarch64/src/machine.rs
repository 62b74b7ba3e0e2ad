// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the vCPUs of one VM share.
//!
//! Made by `vm` before any vCPU, and never changed but through the locks and
//! atomics inside.

use alloc::{sync::Arc, vec::Vec};

use axvm::{AxVMHal, CpuPower, Ram, RecordPage, VCpuControl, VCpuId, vmid::VmTlb};

use crate::{
    irqchip::{Gic, vcpu_of_affinity},
    mitigations::Mitigations,
    psci::Firmware,
    stage2::Format,
    stolen,
    sysreg::IdRegisters,
    trng::Random,
};

/// One VM's common parts.
pub(crate) struct Machine<H: AxVMHal> {
    pub(crate) hal: H,
    pub(crate) ram: Arc<Ram<H>>,
    pub(crate) gic: Arc<Gic<H>>,
    pub(crate) controls: Vec<Arc<VCpuControl<H>>>,
    pub(crate) ids: IdRegisters,
    pub(crate) mitigations: Mitigations,
    pub(crate) random: Random,
    pub(crate) stolen_time: Arc<RecordPage<H>>,
    pub(crate) tlb: VmTlb,
    pub(crate) format: Format,
    /// ID_AA64MMFR0_EL1.PARange.
    pub(crate) pa_range: u64,
    /// What the guest's virtual counter is behind the physical one.
    pub(crate) counter_offset: u64,
}

/// The machine's firmware as one vCPU calls it, with preemption off.
pub(crate) struct Siblings<'a, H: AxVMHal> {
    pub(crate) machine: &'a Machine<H>,
    pub(crate) own: VCpuId,
}

impl<H: AxVMHal> Firmware for Siblings<'_, H> {
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

    fn mitigations(&self) -> &Mitigations {
        &self.machine.mitigations
    }

    fn has_random(&self) -> bool {
        self.machine.random.is_there()
    }

    fn random(&self) -> Option<[u64; 3]> {
        self.machine.random.words(&self.machine.hal)
    }

    fn stolen_time(&self) -> Option<u64> {
        stolen::address_of(self.own)
    }
}
