// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a multiboot loader hands over: memory map, command line, modules.
//!
//! Called once. The first module is the bundle of VMs, as `-initrd` is on the
//! other machines. Spec: Multiboot Specification 0.6.96, "Boot information format".

use multiboot::information::{MemoryManagement, MemoryType, Multiboot, PAddr};

use super::read_phys;
use crate::machine::{Machine, PhysRange};

struct BootMemory;

impl MemoryManagement for BootMemory {
    unsafe fn paddr_to_slice(&self, address: PAddr, len: usize) -> Option<&'static [u8]> {
        read_phys(address as usize, len)
    }

    unsafe fn allocate(&mut self, _len: usize) -> Option<(PAddr, &mut [u8])> {
        None
    }

    unsafe fn deallocate(&mut self, _address: PAddr) {}
}

/// Adds what the loader says to `machine`.
pub(super) fn describe(info_address: usize, machine: &mut Machine) {
    let mut memory = BootMemory;
    // SAFETY: the loader left its information there, and the boot table maps it.
    let info = unsafe { Multiboot::from_ptr(info_address as PAddr, &mut memory) };
    let info = info.expect("the loader's information lies below 4 GiB");
    machine.set_command_line(info.command_line().unwrap_or_default());
    for region in info.memory_regions().into_iter().flatten() {
        if region.memory_type() == MemoryType::Available {
            machine.add_ram(PhysRange::from_size(
                region.base_address() as usize,
                region.length() as usize,
            ));
        }
    }
    for module in info.modules().into_iter().flatten() {
        let range = PhysRange {
            start: module.start as usize,
            end: module.end as usize,
        };
        machine.reserve(range);
        machine.initrd = machine.initrd.or(Some(range));
    }
}
