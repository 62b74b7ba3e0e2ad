// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The CPU's registers as typed values, and the access to the real ones.
//!
//! Fields are in `control`, numbers of model-specific registers in `msr`. Off
//! the real machine the registers are a fake, one set for each test thread.
//!
//! Spec: AMD64 APM 2, "System Registers", "MSR Cross-Reference"; APM 3, CPUID.

mod control;
mod msr;

#[cfg_attr(all(target_arch = "x86_64", target_os = "none"), path = "hardware.rs")]
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "none")), path = "fake.rs")]
mod access;

pub(crate) use access::{
    Leaf, close_interrupts, cpuid, load_debug, read_msr, read_xcr0, renew_task_priority,
    restore_interrupts, set_cr4_bits, store_debug, tsc, write_msr, write_xcr0, xrstor, xsave,
};
#[cfg(test)]
pub(crate) use access::{loads, renewals, set_cpuid};
pub(crate) use control::{CR0, CR4, EFER, RFLAGS, bits};
pub(crate) use msr::Msr;
