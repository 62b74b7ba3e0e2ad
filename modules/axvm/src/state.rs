// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The states of a VM's life, each owning what exists in it.
//!
//! A step takes the state out, leaving [`VmMachineState::Switching`], and puts
//! the next one in: ownership moves, and no state can see another's data.

use alloc::{string::String, sync::Arc, vec::Vec};

use axdevice::PowerRequest;
use axvm_types::VCpuId;

use crate::{ArchVm, AxVMHal, Error, Machine};

/// Where a VM is in its life, with what exists there.
pub enum VmMachineState<A: ArchVm> {
    /// Nothing but the configuration.
    Uninit,
    /// Memory, devices and vCPUs exist.
    Inited(Machine<A>),
    /// Its threads run.
    Running(Run<A>),
    /// Its threads are parked.
    Paused(Run<A>),
    /// A step is being taken.
    Switching,
    /// Its threads are ending; whoever waits for them has the machine.
    Stopping,
    /// It has ended; its memory is there to be looked at or booted again.
    Stopped(Machine<A>, VmOutcome),
    /// It could not be built.
    Failed(Error),
}

/// A machine and the threads that run it.
pub struct Run<A: ArchVm> {
    pub(crate) machine: Arc<Machine<A>>,
    pub(crate) threads: Vec<<A::Hal as AxVMHal>::Thread>,
}

/// A state's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmStatus {
    /// [`VmMachineState::Uninit`]
    Uninit,
    /// [`VmMachineState::Inited`]
    Inited,
    /// [`VmMachineState::Running`]
    Running,
    /// [`VmMachineState::Paused`]
    Paused,
    /// [`VmMachineState::Switching`]
    Switching,
    /// [`VmMachineState::Stopping`]
    Stopping,
    /// [`VmMachineState::Stopped`]
    Stopped,
    /// [`VmMachineState::Failed`]
    Failed,
}

impl core::fmt::Display for VmStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(match self {
            Self::Uninit => "uninit",
            Self::Inited => "inited",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Switching => "switching",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        })
    }
}

impl<A: ArchVm> VmMachineState<A> {
    /// Returns the state's name; a run whose threads have all ended is stopping.
    pub fn status(&self) -> VmStatus {
        match self {
            Self::Uninit => VmStatus::Uninit,
            Self::Inited(_) => VmStatus::Inited,
            Self::Running(run) | Self::Paused(run) if run.machine.run.is_over() => {
                VmStatus::Stopping
            }
            Self::Running(_) => VmStatus::Running,
            Self::Paused(_) => VmStatus::Paused,
            Self::Switching => VmStatus::Switching,
            Self::Stopping => VmStatus::Stopping,
            Self::Stopped(..) => VmStatus::Stopped,
            Self::Failed(_) => VmStatus::Failed,
        }
    }

    /// Returns the machine, in the states that have one.
    pub(crate) fn machine(&self) -> Option<&Machine<A>> {
        match self {
            Self::Inited(machine) | Self::Stopped(machine, _) => Some(machine),
            Self::Running(run) | Self::Paused(run) => Some(&run.machine),
            Self::Uninit | Self::Switching | Self::Stopping | Self::Failed(_) => None,
        }
    }
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmOutcome {
    /// The guest switched itself off.
    PoweredOff,
    /// The guest switched itself off and reported failure.
    GuestFailed(u32),
    /// The guest asked for a restart.
    ResetRequested,
    /// The host stopped it.
    Stopped,
    /// It did what cannot be handled.
    Crashed(VmFault),
}

impl VmOutcome {
    /// Tells whether this end counts as a failure.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::GuestFailed(_) | Self::Crashed(_))
    }
}

impl From<PowerRequest> for VmOutcome {
    fn from(request: PowerRequest) -> Self {
        match request {
            PowerRequest::Off => Self::PoweredOff,
            PowerRequest::Failed(code) => Self::GuestFailed(code),
            PowerRequest::Reset => Self::ResetRequested,
        }
    }
}

impl core::fmt::Display for VmOutcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::PoweredOff => f.write_str("powered off"),
            Self::GuestFailed(code) => write!(f, "powered off, reporting failure {code}"),
            Self::ResetRequested => f.write_str("asked for a restart"),
            Self::Stopped => f.write_str("stopped by the host"),
            Self::Crashed(fault) => write!(f, "crashed: {fault}"),
        }
    }
}

/// What a guest did that cannot be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmFault {
    /// The vCPU that did it.
    pub vcpu: VCpuId,
    /// Where its guest was.
    pub pc: u64,
    /// What it was.
    pub cause: String,
    /// The registers, for a person to read.
    pub registers: String,
}

impl core::fmt::Display for VmFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "vCPU {} at {:#x}: {}", self.vcpu, self.pc, self.cause)
    }
}
