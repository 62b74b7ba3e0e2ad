// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The rest of a PC, as values: its small devices, its tables, its boot.
//!
//! CMOS and clock, keyboard controller, ACPI's registers and tables, the MP
//! table, PCI's configuration ports, and the state in which each boot protocol
//! leaves the boot CPU. `vm` puts the devices on the bus and the tables into RAM.
