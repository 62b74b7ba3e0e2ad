// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! ACPI: the power management registers, and the tables that describe the machine.

mod dsdt;
pub mod pm;
mod registers;
mod tables;

pub use pm::PowerManagement;
pub(super) use tables::checksum;
pub use tables::{Machine, tables};
