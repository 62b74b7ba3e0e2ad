// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! x86_64 as an architecture of axvm: the hypervisor's console, and no VMs yet.
//!
//! The application links this crate as `arch` when its feature `x86_64` is
//! selected. Every VM file is refused with the reason; the types of machine and
//! vCPU have no values, so that nothing can pretend to run one.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod irqchip;
mod none;
pub mod pc;

use alloc::{string::String, vec::Vec};
use core::marker::PhantomData;

use axdevice::AxVmDevices;
use axvm::{
    ArchVm, AxArchPerCpu, AxVMConfig, AxVMHal, ConfigFault, CpuUpStatus, Error, GuestPhysAddr,
    MachineParts, Ram, RamRegion, Result, VCpuId, VCpuParts,
};

pub use none::Nothing;

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "x86_64";

const NO_VMS: &str = "virtual machines of x86_64 are not built yet";

/// A machine that does not exist.
pub struct Vm<H> {
    nothing: Nothing,
    hal: PhantomData<H>,
}

/// A physical CPU that runs no guests.
pub struct PerCpu(Nothing);

impl<H: AxVMHal> ArchVm for Vm<H> {
    type Hal = H;
    type VCpu = Nothing;
    type PageTable = Nothing;

    fn check(_config: &AxVMConfig) -> core::result::Result<(), ConfigFault> {
        Err(ConfigFault {
            key: "boot.kernel",
            cause: String::from(NO_VMS),
            remedy: String::from("use ARCH=riscv64 or ARCH=aarch64"),
        })
    }

    fn ram_layout(_config: &AxVMConfig) -> Vec<RamRegion> {
        Vec::new()
    }

    fn new_page_table(_hal: &H) -> Result<Nothing> {
        Err(Error::Unsupported(NO_VMS))
    }

    fn new(_parts: &MachineParts<'_, H>, _devices: &mut AxVmDevices) -> Result<Self> {
        Err(Error::Unsupported(NO_VMS))
    }

    fn new_vcpu(&self, _id: VCpuId, _parts: &VCpuParts<'_>) -> Result<Nothing> {
        match self.nothing {}
    }

    fn boot(&self, _config: &AxVMConfig, _ram: &Ram<H>, boot_vcpu: &mut Nothing) -> Result<()> {
        match *boot_vcpu {}
    }

    fn vcpu_of(&self, _cpu: u64) -> Option<VCpuId> {
        match self.nothing {}
    }

    fn start_vcpu(&self, vcpu: &mut Nothing, _entry: GuestPhysAddr, _arg: u64) -> Result<()> {
        match *vcpu {}
    }

    fn cpu_up_status(_status: CpuUpStatus) -> u64 {
        0
    }

    fn inject_irq(&self, _vcpu: VCpuId, _vector: u64) {
        match self.nothing {}
    }
}

impl AxArchPerCpu for PerCpu {
    fn new() -> Result<Self> {
        Err(Error::Unsupported(NO_VMS))
    }

    fn is_enabled(&self) -> bool {
        match self.0 {}
    }

    fn hardware_enable(&mut self) -> Result<()> {
        match self.0 {}
    }

    fn hardware_disable(&mut self) -> Result<()> {
        match self.0 {}
    }
}
