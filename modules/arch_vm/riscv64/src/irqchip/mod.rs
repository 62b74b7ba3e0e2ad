// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupt controllers of the machine, as pure models.
//!
//! They know sources, contexts and registers, and neither vCPUs nor locks:
//! `hart` connects their outputs to the vCPUs.

pub mod plic;
