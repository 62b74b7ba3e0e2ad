// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The backend for Intel's virtual-machine extensions.
//!
//! Chosen once by CPUID; everything above it sees only [`Vmx`]'s methods, which
//! are those of SVM's. `fields` are a VMCS's fields with their types, `controls`
//! its words of bits, `cpu` the instructions, `exit` what the reasons mean,
//! `check` which field made an entry fail, `maps` what a guest reaches by itself,
//! `apic` how the CPU is given the local APIC, `entry` the assembly.
//!
//! Spec: Intel SDM 3, "Virtual Machine Extensions".

mod apic;
mod check;
mod control_register;
mod controls;
#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "none")),
    path = "cpu_fake.rs"
)]
mod cpu;
#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "none")),
    path = "entry_fake.rs"
)]
mod entry;
mod events;
mod exit;
mod features;
mod fields;
mod host;
mod maps;
mod registers;
mod state;
#[cfg(test)]
mod tests;
mod vmcs;

pub(crate) use features::{Features, enable, is_there};
pub(crate) use maps::Maps;
pub(crate) use state::Vmx;
