// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Timers that a PC has beside those of its CPUs.

pub mod hpet;
pub mod i8254;

pub use hpet::{Hpet, LegacyWires};
pub use i8254::{Pit, SystemControl};
