// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What is measured on each architecture: one folder each, the same files.
//!
//! | file | job |
//! |---|---|
//! | `clock` | the finest counter there is, and `timed!` |
//! | `calls` | requests that return |
//! | `devices` | accesses to devices |
//! | `interrupts` | from the cause to the first instruction of the handler |

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::{calls, clock, devices, interrupts};
#[cfg(target_arch = "riscv64")]
pub use riscv64::{calls, clock, devices, interrupts};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{calls, clock, devices, interrupts};
