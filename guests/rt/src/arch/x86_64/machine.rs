// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What loader and BIOS say about the machine, and where this image ends.
//!
//! Called once by `entry`. CPUs come from ACPI's MADT, else from the MP table,
//! else there is one. Hands what powers the machine off on to `power`.

use core::arch::x86_64::__cpuid;

use super::power;
use crate::firmware::acpi::Tables;
use crate::firmware::physical::Physical;
use crate::firmware::{mptable, multiboot, pvh};
use crate::machine::{Failure, HardwareId, Machine};

/// Where the identity map ends.
pub const MAPPED_END: u64 = 1 << 32;

unsafe extern "C" {
    static __image_end: u8;
}

/// Returns the first address after this image and its stacks.
pub fn image_end() -> u64 {
    (&raw const __image_end).addr() as u64
}

// The identity map seen as physical memory.
struct Identity;

impl Physical for Identity {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        let end = address.checked_add(length as u64)?;
        if address == 0 || end > MAPPED_END {
            return None;
        }
        // SAFETY: mapped, not null, and written by firmware only before boot.
        Some(unsafe { core::slice::from_raw_parts(address as *const u8, length) })
    }
}

/// Reads what the loader handed over, and the BIOS tables.
pub fn discover(magic: u32, information: u64) -> Result<Machine, Failure> {
    let mut machine = Machine::new(own_id());
    let (is_read, rsdp) = match magic {
        multiboot::MAGIC => (multiboot::read(&Identity, information, &mut machine), None),
        pvh::MAGIC => {
            let rsdp = pvh::read(&Identity, information, &mut machine);
            (rsdp.map(|_| ()), rsdp.filter(|address| *address != 0))
        }
        _ => return Err(Failure("unknown boot protocol")),
    };
    is_read.ok_or(Failure("damaged boot information"))?;
    read_tables(rsdp, &mut machine);
    Ok(machine)
}

fn read_tables(rsdp: Option<u64>, machine: &mut Machine) {
    let tables = Tables::find(&Identity, rsdp);
    if let Some(soft_off) = tables.as_ref().and_then(Tables::soft_off) {
        power::set_soft_off(soft_off);
    }
    if let Some(cpus) = tables.as_ref().and_then(Tables::cpus) {
        cpus.for_each(|id| machine.add_cpu(id));
    } else if let Some(cpus) = mptable::cpus(&Identity) {
        cpus.for_each(|id| machine.add_cpu(id));
    }
}

fn own_id() -> HardwareId {
    HardwareId(u64::from(__cpuid(1).ebx >> 24))
}
