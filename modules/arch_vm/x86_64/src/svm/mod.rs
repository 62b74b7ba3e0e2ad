// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The backend for AMD's secure virtual machine.
//!
//! Chosen once by CPUID; everything above it sees only [`Svm`]'s methods, which
//! are those of `vmx` as well. `vmcb` is the hardware's block,
//! `exit` what its codes mean, `maps` what is intercepted, `entry` the assembly,
//! `fast` what is finished before the world is switched.
//!
//! Spec: AMD64 APM 2, "Secure Virtual Machine".

#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "none")),
    path = "entry_fake.rs"
)]
mod entry;
mod exit;
mod fast;
mod features;
mod maps;
mod state;
mod vmcb;

pub(crate) use features::{Features, disable, enable};
pub(crate) use maps::Maps;
pub(crate) use state::Svm;
