// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The PC around the CPUs, as QEMU's q35 shows it to a guest.
//!
//! Pure logic over values and axdevice's seams, tested on the host: nothing
//! here knows SVM or VMX. `layout` says where memory is and `ports` where the
//! devices are; `devices` puts them on the bus; `acpi` and `mp_table` describe
//! them to the guest; `boot` says what a loader leaves behind.

pub mod acpi;
pub mod boot;
pub mod cmos;
pub mod devices;
pub mod i8042;
pub mod layout;
mod mp_table;
pub mod ports;
pub mod reset;
mod rtc;
#[cfg(test)]
mod testing;

pub use mp_table::mp_table;
