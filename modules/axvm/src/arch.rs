// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What an architecture plugs in.
//!
//! [`ArchVm`] is the machine around the vCPUs: memory map, interrupt
//! controller, firmware tables. [`AxArchVCpu`] is one vCPU. [`AxArchPerCpu`]
//! switches a physical CPU's virtualization on. Differences between
//! architectures end at these three; everything above is common.

use alloc::{sync::Arc, vec::Vec};

use axaddrspace::NestedPageTableOps;
use axdevice::{AxVmDevices, Console, DeviceTimers, PowerSink};
use axvm_types::{GuestPhysAddr, HostPhysAddr, VCpuId};

use crate::{
    AxVCpuExitReason, AxVMConfig, AxVMHal, ConfigFault, CpuUpStatus, PCpuId, Ram, RecordPage,
    Result, VCpuControl,
};

/// A range of guest RAM that a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRegion {
    /// Where the guest sees it, 2 MiB-aligned.
    pub start: GuestPhysAddr,
    /// Its size, a multiple of 2 MiB.
    pub size_bytes: usize,
}

/// What a machine is built from; everything is made by axvm.
pub struct MachineParts<'a, H: AxVMHal> {
    /// The host.
    pub hal: &'a H,
    /// The VM's frozen configuration.
    pub config: &'a AxVMConfig,
    /// Its RAM, mapped in stage 2 already.
    pub ram: &'a Arc<Ram<H>>,
    /// The root of its stage 2.
    pub root: HostPhysAddr,
    /// The page of [`ArchVm::record_page`], zeroed.
    pub records: Option<&'a Arc<RecordPage<H>>>,
    /// The handles by which its vCPUs are reached, in the order of their ids.
    pub controls: &'a [Arc<VCpuControl<H>>],
    /// Where devices are added that act at a time.
    pub timers: &'a DeviceTimers,
    /// Its console.
    pub console: &'a Arc<Console>,
    /// Where devices send power requests.
    pub power: &'a Arc<dyn PowerSink>,
}

/// What a vCPU is made from, besides its machine.
pub struct VCpuParts<'a> {
    /// The root of the machine's stage 2.
    pub root: HostPhysAddr,
    /// How many levels stage 2 has.
    pub levels: usize,
    /// The machine's devices, all of them.
    pub devices: &'a Arc<AxVmDevices>,
}

/// One architecture's machine around the vCPUs of one VM.
pub trait ArchVm: Send + Sync + Sized + 'static {
    /// The host it runs on.
    type Hal: AxVMHal;
    /// Its vCPU.
    type VCpu: AxArchVCpu;
    /// Its stage-2 page table.
    type PageTable: NestedPageTableOps + Send + Sync;

    /// Refuses a configuration that this architecture cannot build.
    fn check(config: &AxVMConfig) -> core::result::Result<(), ConfigFault>;

    /// Returns where the machine's RAM lies; a checked configuration has some.
    fn ram_layout(config: &AxVMConfig) -> Vec<RamRegion>;

    /// Returns where the guest has a page that it can only read, and that the
    /// hypervisor writes; machines without one say nothing.
    fn record_page() -> Option<GuestPhysAddr> {
        None
    }

    /// Makes an empty stage-2 table.
    fn new_page_table(hal: &Self::Hal) -> Result<Self::PageTable>;

    /// Builds the machine: its interrupt controller, and its devices on the bus.
    fn new(parts: &MachineParts<'_, Self::Hal>, devices: &mut AxVmDevices) -> Result<Self>;

    /// Makes vCPU `id` of the finished machine.
    fn new_vcpu(&self, id: VCpuId, parts: &VCpuParts<'_>) -> Result<Self::VCpu>;

    /// Loads the images and the firmware's tables into RAM, and puts the boot
    /// vCPU where the machine's firmware would leave it.
    fn boot(
        &self,
        config: &AxVMConfig,
        ram: &Ram<Self::Hal>,
        boot_vcpu: &mut Self::VCpu,
    ) -> Result<()>;

    /// Returns the vCPU that the guest calls `cpu`.
    fn vcpu_of(&self, cpu: u64) -> Option<VCpuId>;

    /// Puts a vCPU that was off where firmware starts a CPU.
    fn start_vcpu(&self, vcpu: &mut Self::VCpu, entry: GuestPhysAddr, arg: u64) -> Result<()>;

    /// Returns what the firmware interface answers to a CPU start.
    fn cpu_up_status(status: CpuUpStatus) -> u64;

    /// Makes interrupt `vector` pending at a vCPU; any thread may call.
    fn inject_irq(&self, vcpu: VCpuId, vector: u64);
}

/// An access of a guest that no device answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestAccess {
    /// A read of guest physical memory.
    Read(GuestPhysAddr),
    /// A write of guest physical memory.
    Write(GuestPhysAddr),
    /// An instruction fetch.
    Fetch(GuestPhysAddr),
    /// A system register.
    SysReg,
    /// An I/O port read: a PC's bus answers all ones.
    PortRead,
    /// An I/O port write: a PC's bus ignores it.
    PortWrite,
}

/// One architecture's vCPU.
///
/// The life of the value is checked by [`AxVCpu`](crate::AxVCpu): `setup` comes
/// once and before all else, `bind` before `run`, and `run` only while bound.
pub trait AxArchVCpu: Send + Sized + 'static {
    /// What [`Self::new`] needs.
    type CreateConfig;
    /// What [`Self::setup`] needs.
    type SetupConfig: Default;

    /// Makes a vCPU that cannot run yet.
    fn new(config: Self::CreateConfig) -> Result<Self>;

    /// Sets where the guest's execution begins.
    fn set_entry(&mut self, entry: GuestPhysAddr) -> Result<()>;

    /// Sets the root of the stage-2 page table.
    fn set_ept_root(&mut self, root: HostPhysAddr) -> Result<()>;

    /// Puts all registers to their state at power-on.
    fn setup(&mut self, config: Self::SetupConfig) -> Result<()>;

    /// Returns the devices of its machine.
    fn devices(&self) -> &AxVmDevices;

    /// Runs the guest until something leaves the architecture.
    ///
    /// Returns [`AxVCpuExitReason::Nothing`] at once while a request is pending.
    /// Device accesses may leave, or be finished inside by [`access::finish`].
    ///
    /// [`access::finish`]: crate::access::finish
    fn run(&mut self) -> Result<AxVCpuExitReason>;

    /// Loads the register bank into this physical CPU.
    fn bind(&mut self) -> Result<()>;

    /// Puts the register bank away from this physical CPU.
    fn unbind(&mut self) -> Result<()>;

    /// Sets a general register by the number that exits use.
    fn set_gpr(&mut self, reg: usize, value: u64);

    /// Makes an interrupt pending at this vCPU.
    fn inject_interrupt(&mut self, vector: u64) -> Result<()>;

    /// Gives the guest the result of its last call or port read.
    fn set_return_value(&mut self, value: u64);

    /// Gives the guest what its hardware would do about an unanswered access.
    fn refuse_access(&mut self, access: GuestAccess);

    /// Returns where the guest is.
    fn guest_pc(&self) -> u64;

    /// Returns when the guest's own timer fires next, on the host's clock.
    fn next_timer_ns(&self) -> Option<u64>;

    /// Writes the registers for a person to read.
    fn dump(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result;
}

/// A physical CPU's virtualization.
pub trait AxArchPerCpu: Sized {
    /// Takes note of what firmware says of this machine; called once, before
    /// the first [`Self::new`].
    ///
    /// An architecture whose CPUs tell all of themselves needs none of it.
    fn describe_machine(_device_tree: Option<&[u8]>) -> Result<()> {
        Ok(())
    }

    /// Looks at this physical CPU, and refuses one that cannot virtualize.
    fn new() -> Result<Self>;

    /// Tells whether virtualization is on.
    fn is_enabled(&self) -> bool;

    /// Switches virtualization on.
    fn hardware_enable(&mut self) -> Result<()>;

    /// Switches virtualization off; no vCPU may be bound here.
    fn hardware_disable(&mut self) -> Result<()>;

    /// Hears that this physical CPU, `cpu`, took an interrupt of another one, or one
    /// that the hardware means for guests; called by its handler.
    fn hear(_cpu: PCpuId) {}
}
