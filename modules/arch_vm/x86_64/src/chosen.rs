// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The vCPU that axvm sees: one of SVM, or one of VMX.
//!
//! Which of them it is was decided by the machine's CPUs; each call asks it once
//! and goes on in code that was built for that hardware.

use alloc::sync::Arc;

use axdevice::AxVmDevices;
use axvm::{
    AxArchVCpu, AxVCpuExitReason, AxVMHal, GuestAccess, GuestPhysAddr, HostPhysAddr, Result, VCpuId,
};

use crate::{
    backend::Maps, interrupts::Interrupts, machine::Machine, pc::boot::BootState, svm::Svm,
    vcpu::VCpu, vmx::Vmx,
};

/// What a vCPU is made from.
pub struct CreateConfig<H: AxVMHal> {
    pub(crate) machine: Arc<Machine<H>>,
    pub(crate) devices: Arc<AxVmDevices>,
    pub(crate) id: VCpuId,
    pub(crate) interrupts: Interrupts<H>,
}

/// One vCPU.
pub struct X86VCpu<H: AxVMHal>(Hardware<H>);

enum Hardware<H: AxVMHal> {
    Svm(VCpu<H, Svm<H>>),
    Vmx(VCpu<H, Vmx<H>>),
}

/// Asks the vCPU that there is.
macro_rules! passed_on {
    ($self:ident, $vcpu:ident => $call:expr) => {
        match &$self.0 {
            Hardware::Svm($vcpu) => $call,
            Hardware::Vmx($vcpu) => $call,
        }
    };
    (mut $self:ident, $vcpu:ident => $call:expr) => {
        match &mut $self.0 {
            Hardware::Svm($vcpu) => $call,
            Hardware::Vmx($vcpu) => $call,
        }
    };
}

impl<H: AxVMHal> X86VCpu<H> {
    /// Puts all registers to where the guest starts.
    pub(crate) fn start_at(&mut self, state: &BootState) {
        passed_on!(mut self, vcpu => vcpu.start_at(state));
    }
}

impl<H: AxVMHal> AxArchVCpu for X86VCpu<H> {
    type CreateConfig = CreateConfig<H>;
    type SetupConfig = ();

    fn new(config: CreateConfig<H>) -> Result<Self> {
        let machine = config.machine.clone();
        let rights = *machine.cpuid.rights();
        let hardware = match &machine.maps {
            Maps::Svm(features, maps) => {
                let svm = Svm::new(&machine.hal, *features, maps.clone(), rights)?;
                Hardware::Svm(VCpu::new(config, svm)?)
            }
            Maps::Vmx(features, maps) => {
                let apic = config.interrupts.apic.page().clone();
                let vmx = Vmx::new(&machine.hal, *features, maps.clone(), apic, rights)?;
                Hardware::Vmx(VCpu::new(config, vmx)?)
            }
        };
        Ok(Self(hardware))
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> Result<()> {
        passed_on!(mut self, vcpu => vcpu.backend.go_on_at(entry.as_usize() as u64));
        Ok(())
    }

    fn set_ept_root(&mut self, root: HostPhysAddr) -> Result<()> {
        passed_on!(mut self, vcpu => vcpu.backend.set_nested_root(root));
        Ok(())
    }

    fn setup(&mut self, (): ()) -> Result<()> {
        passed_on!(mut self, vcpu => vcpu.power_on());
        Ok(())
    }

    fn devices(&self) -> &AxVmDevices {
        passed_on!(self, vcpu => &vcpu.devices)
    }

    fn run(&mut self) -> Result<AxVCpuExitReason> {
        passed_on!(mut self, vcpu => vcpu.run())
    }

    fn bind(&mut self) -> Result<()> {
        passed_on!(mut self, vcpu => vcpu.bind());
        Ok(())
    }

    fn unbind(&mut self) -> Result<()> {
        passed_on!(mut self, vcpu => vcpu.unbind());
        Ok(())
    }

    fn set_gpr(&mut self, reg: usize, value: u64) {
        passed_on!(mut self, vcpu => vcpu.frame.set(reg, value));
    }

    fn inject_interrupt(&mut self, vector: u64) -> Result<()> {
        passed_on!(self, vcpu => vcpu.machine.fabric.inject(vcpu.id, vector as u8));
        Ok(())
    }

    fn set_return_value(&mut self, value: u64) {
        passed_on!(mut self, vcpu => vcpu.answer(value));
    }

    fn refuse_access(&mut self, _access: GuestAccess) {}

    fn guest_pc(&self) -> u64 {
        passed_on!(self, vcpu => vcpu.guest_pc())
    }

    fn next_timer_ns(&self) -> Option<u64> {
        passed_on!(self, vcpu => vcpu.timer_deadline_ns())
    }

    fn dump(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        passed_on!(self, vcpu => vcpu.dump(out))
    }
}

#[cfg(test)]
impl<H: AxVMHal> X86VCpu<H> {
    /// Returns the vCPU of SVM, which the tests of exits have.
    pub(crate) fn svm(&mut self) -> &mut VCpu<H, Svm<H>> {
        match &mut self.0 {
            Hardware::Svm(vcpu) => vcpu,
            Hardware::Vmx(_) => panic!("the test's CPU has SVM"),
        }
    }
}
