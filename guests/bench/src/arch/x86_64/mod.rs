// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! x86_64: CPUID, hypercalls, I/O ports, the local APIC and interrupts.
//!
//! Spec: Intel SDM; AMD APM volume 3, VMMCALL.

#[macro_use]
pub mod clock;
pub mod calls;
pub mod devices;
pub mod interrupts;
