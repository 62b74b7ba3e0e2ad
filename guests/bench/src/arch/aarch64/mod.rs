// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! aarch64: PSCI and SMCCC calls, the UART, the GIC, and interrupts.
//!
//! Spec: Arm Architecture Reference Manual for A-profile; SMCCC (DEN 0028);
//! PSCI (DEN 0022).

#[macro_use]
pub mod clock;
pub mod calls;
pub mod devices;
pub mod interrupts;
