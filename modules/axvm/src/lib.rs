// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A virtual machine: its states, its vCPUs, its memory, its boot, its exits.
//!
//! [`AxVM`] is what the hypervisor holds; [`ArchVm`] and [`AxArchVCpu`] are what
//! an architecture plugs in; [`AxVMHal`] is what the host provides. Nothing in
//! this crate knows which architecture it runs on, so that all of it is tested
//! with plain `cargo test` on the software architecture of `arch_vm/host`.
//!
//! Read in this order: `config` (what a VM is made from), `vm` (its life),
//! `run` (a vCPU's loop), `exit` (what leaves the guest), `control` (how a
//! vCPU is reached from outside).
#![no_std]
#![deny(unsafe_code)]
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

pub mod access;
mod arch;
pub mod boot;
mod config;
mod console;
mod control;
mod error;
mod exit;
mod hal;
mod machine;
mod memory;
mod power;
mod run;
pub mod stage2;
mod state;
mod stats;
mod stolen;
mod vcpu;
mod vm;
pub mod vmid;

pub use arch::{ArchVm, AxArchPerCpu, AxArchVCpu, GuestAccess, MachineParts, RamRegion, VCpuParts};
pub use axaddrspace::MappingFlags;
pub use axvm_types::{
    AccessWidth, GuestPhysAddr, HostPhysAddr, HostVirtAddr, Port, SysRegAddr, VCpuId, VMId,
};
pub use config::{
    AxVMConfig, BootConfig, ConfigFault, CrashPolicy, DeviceConfig, ImageBytes, Policy, VCpuConfig,
};
pub use control::{Request, VCpuControl};
pub use error::{Error, Result};
pub use exit::{AxVCpuExitReason, ConsoleCall, CpuUpStatus, ExitKind, IpiTargets};
pub use hal::{AxVCpuHal, AxVMHal, HostEvent, HostThread, PCpuId, PCpuSet, Progress, VCpuTask};
pub use machine::Machine;
pub use memory::{Ram, RecordPage};
pub use power::CpuPower;
pub use state::{VmFault, VmMachineState, VmOutcome, VmStatus};
pub use stats::{TraceEntry, VCpuStats};
pub use stolen::StolenTime;
pub use vcpu::{AxVCpu, AxVCpuRef, VCpuState};
pub use vm::{AxVM, AxVMRef, VmData};
