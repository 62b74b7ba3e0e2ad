// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The interrupt controllers of a PC.
//!
//! The 8259 pair, the I/O APIC and the local APICs are values: functions of the
//! registers that a guest wrote and of a time that is handed in. They know no
//! VMCB, VMCS, lock or vCPU; whoever owns them connects them with each other.

pub(crate) mod i8259;
pub(crate) mod ioapic;
pub(crate) mod lapic;
pub(crate) mod message;
mod vectors;
