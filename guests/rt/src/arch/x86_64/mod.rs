// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! x86_64: a PC, loaded by multiboot 1 or PVH, with a local APIC per CPU.
//!
//! Runs in long mode with the first 4 GiB mapped one to one, uncached from 3 GiB
//! on. Interrupts come from local APICs alone; both 8259s are masked.
//!
//! Spec: Intel SDM volume 3 and AMD APM volume 2; Multiboot 0.6.96; Xen, "x86/HVM
//! direct boot ABI".

pub mod apic;
pub mod console;
pub mod entry;
pub mod irq;
pub mod machine;
pub mod port;
pub mod power;
pub mod rtc;
pub mod smp;
pub mod timer;
pub mod trap;

/// The name of the architecture.
pub const NAME: &str = "x86_64";
