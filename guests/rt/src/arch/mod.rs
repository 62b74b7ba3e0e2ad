// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine-dependent half: one folder per architecture, the same files in each.
//!
//! | file | job |
//! |---|---|
//! | `entry` | first instructions, stacks, which CPU this is |
//! | `machine` | what firmware says about the machine |
//! | `console` | the UART, and the firmware's console |
//! | `trap` | interrupt and fault entry; reading where a fault may come |
//! | `irq` | interrupt controller: masks, IPIs, halting |
//! | `timer` | clock and one-shot timer |
//! | `smp` | starting and stopping CPUs |
//! | `rtc` | wall clock |
//! | `power` | leaving the machine |

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::{NAME, console, entry, gic, irq, machine, power, rtc, smp, timer, trap};
#[cfg(target_arch = "riscv64")]
pub use riscv64::{NAME, console, entry, irq, machine, power, rtc, smp, timer, trap};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{NAME, apic, console, entry, irq, machine, port, power, rtc, smp, timer, trap};
