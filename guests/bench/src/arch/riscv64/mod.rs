// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! riscv64: calls to the SBI, the UART, the PLIC, and interrupts.
//!
//! Spec: RISC-V Privileged, "Supervisor-Level ISA"; RISC-V SBI 2.0.

#[macro_use]
pub mod clock;
pub mod calls;
pub mod devices;
pub mod interrupts;
