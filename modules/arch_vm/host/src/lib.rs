// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtual machines on the generic host profile, a software architecture.
//!
//! The application links this crate as `arch` when its feature `host` is
//! selected; axvm's tests drive whole VMs with it. A vCPU interprets small
//! programs ([`Program`]) from guest RAM through a stage-2 table in the host's
//! frames, leaves with every exit reason that axvm knows, and keeps the rules
//! that hardware enforces: registers are loaded where they run, a kick ends a
//! run, an access that stage 2 does not map leaves the guest.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
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

mod devices;
mod exec;
mod image;
mod insn;
mod irqchip;
mod machine;
mod percpu;
mod phys;
mod program;
mod regs;
mod stage2;
#[cfg(any(test, feature = "std"))]
pub mod testing;
mod vcpu;

pub use image::{CMDLINE_BYTES_MAX, MAGIC};
pub use insn::{Insn, Op, Reg};
pub use irqchip::{CONSOLE_IRQ, KITCHEN_TIMER_IRQ, TIMER_IRQ};
pub use machine::{
    CONSOLE_MMIO, HostVm, KITCHEN_TIMER_MMIO, POWER_MMIO, RAM_START, SCRATCH_PORT, SCRATCH_SYS_REG,
    VCPUS_MAX,
};
pub use percpu::HostPerCpu;
pub use program::{Program, UnknownLabel};
pub use regs::{Cause, SysReg};
pub use stage2::{HostFormat, HostPageTable};
pub use vcpu::{HostVCpu, HostVCpuConfig};

/// The name under which this architecture is selected and shown.
pub const NAME: &str = "host";

/// What the application calls this architecture's machine.
pub use machine::HostVm as Vm;
/// What the application calls this architecture's physical CPU.
pub use percpu::HostPerCpu as PerCpu;
