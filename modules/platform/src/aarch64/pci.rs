// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Just enough PCI to find QEMU's pvpanic device.
//!
//! Called once, when the machine ends with a failure. PSCI cannot carry an
//! exit status, and QEMU's semihosting would be open to guests as well; a PCI
//! device is not, because guests never see the host's PCI. With
//! `-device pvpanic-pci -action panic=exit-failure` QEMU then ends with
//! status 1. Spec: PCI Local Bus, "Configuration Space"; QEMU, "PVPANIC DEVICE".

use axconfig::devices::{PCI_ECAM_BASE, PCI_WINDOW_BASE};

use crate::mem::linear;

const DEVICES: usize = 32;
const PVPANIC: u32 = 0x0011_1b36;
const COMMAND: usize = 0x04;
const MEMORY_ENABLE: u32 = 1 << 1;
const BAR0: usize = 0x10;
const PANICKED: u8 = 1;

/// Tells QEMU that the machine has failed, if it has given us the means.
pub(super) fn report_failure() {
    let Some(device) = (0..DEVICES).find(|&device| read(device, 0) == PVPANIC) else {
        return;
    };
    write(device, BAR0, PCI_WINDOW_BASE as u32);
    write(device, COMMAND, MEMORY_ENABLE);
    // SAFETY: the BAR was just placed at this address, which is mapped as device memory.
    unsafe { (linear(PCI_WINDOW_BASE) as *mut u8).write_volatile(PANICKED) };
}

/// The address of a register of function 0 of a device on bus 0.
fn register(device: usize, offset: usize) -> *mut u32 {
    linear(PCI_ECAM_BASE + (device << 15) + offset) as *mut u32
}

fn read(device: usize, offset: usize) -> u32 {
    // SAFETY: the configuration space of bus 0 is mapped as device memory.
    unsafe { register(device, offset).read_volatile() }
}

fn write(device: usize, offset: usize, value: u32) {
    // SAFETY: the configuration space of bus 0 is mapped as device memory.
    unsafe { register(device, offset).write_volatile(value) };
}
