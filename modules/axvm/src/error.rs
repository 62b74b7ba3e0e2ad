// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What can go wrong on the host's side of a VM.
//!
//! A guest's mistakes are no errors: they become faults of that guest. These
//! are: the host ran out of something, a verb that the state does not allow, an
//! image that cannot be booted.

use axaddrspace::AddrSpaceError;
use axdevice::{BusError, OutsideRam};
use axerrno::AxError;

use crate::{ConfigFault, VCpuState, VmStatus, boot::ImageError};

/// The result of anything that the host may fail.
pub type Result<T> = core::result::Result<T, Error>;

/// Why the host failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is not enough guest memory left.
    #[error("{size_bytes:#x} bytes of guest RAM are not free; use less or delete a VM")]
    NoRam {
        /// How much was asked for.
        size_bytes: usize,
    },
    /// There are no frames left for page tables or vCPUs.
    #[error("no memory is left for page tables")]
    NoFrames,
    /// The host keeps what it has left for itself.
    #[error("no memory is left for another VM; delete one")]
    NoOwnMemory,
    /// No thread could be made for a vCPU.
    #[error("no thread could be started for vCPU {vcpu}")]
    NoThread {
        /// The vCPU.
        vcpu: usize,
    },
    /// The VM's state does not allow this.
    #[error("a VM that is {state} cannot {verb}")]
    WrongState {
        /// What was asked.
        verb: &'static str,
        /// The state it is in.
        state: VmStatus,
    },
    /// A vCPU is not in the state that this step needs.
    #[error("a vCPU that is {state:?} cannot go from {from:?} to {to:?}")]
    WrongVCpuState {
        /// The state it should have been in.
        from: VCpuState,
        /// The state it should have gone to.
        to: VCpuState,
        /// The state it was in.
        state: VCpuState,
    },
    /// There is no such vCPU.
    #[error("the VM has no vCPU {0}")]
    NoSuchVCpu(usize),
    /// The configuration cannot be built.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// A device does not fit on the bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Stage 2 refused a mapping.
    #[error(transparent)]
    AddrSpace(#[from] AddrSpaceError),
    /// Something does not fit into guest RAM.
    #[error(transparent)]
    OutsideRam(#[from] OutsideRam),
    /// An image cannot be booted.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// This machine cannot virtualize.
    #[error("this CPU cannot run guests: {0}")]
    Unsupported(&'static str),
    /// The hardware refused something, with its own code.
    #[error("the hardware refused to run the vCPU (code {0:#x})")]
    Hardware(u64),
}

impl From<Error> for AxError {
    fn from(error: Error) -> Self {
        match error {
            Error::NoRam { .. } | Error::NoFrames => Self::NoMemory,
            Error::NoOwnMemory | Error::NoThread { .. } => Self::NoMemory,
            Error::WrongState { .. } | Error::WrongVCpuState { .. } => Self::BadState,
            Error::NoSuchVCpu(_) => Self::NotFound,
            Error::Bus(_) => Self::AlreadyExists,
            Error::AddrSpace(_) | Error::OutsideRam(_) => Self::BadAddress,
            Error::Config(_) | Error::Image(_) => Self::InvalidInput,
            Error::Unsupported(_) => Self::Unsupported,
            Error::Hardware(_) => Self::Io,
        }
    }
}
