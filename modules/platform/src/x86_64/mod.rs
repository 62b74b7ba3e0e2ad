// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A PC, booted by a multiboot loader: QEMU's q35 or pc, Bochs, GRUB.
//!
//! CPUs come from ACPI's MADT, RAM and the bundle from the loader's tables,
//! clock rates from a measurement against the PIT.
//! Spec: Multiboot Specification 0.6.96; Intel SDM volume 3 / AMD APM volume 2.

mod apic;
mod boot;
mod calibrate;
mod cmos;
pub(crate) mod console;
pub(crate) mod irq;
mod loader;
pub(crate) mod power;
mod smp;
pub(crate) mod time;

use x86_64::instructions::random::RdRand;

use crate::{
    acpi,
    machine::{Machine, SEED_BYTES},
    mem::linear,
};

const LOW_MEMORY: usize = 0x10_0000;
/// The boot table maps this much.
const MAPPED_AT_BOOT: usize = 1 << 32;

/// Low memory, where the other CPUs start and the loader's and firmware's tables lie.
pub(crate) const MAPPED_RESERVED: &[(usize, usize)] = &[(0, LOW_MEMORY)];

/// Describes the machine from the loader's information at `info_address`.
pub(crate) fn describe(info_address: usize) -> Machine {
    let mut machine = Machine::new(apic::id_of_this_cpu());
    acpi::for_each_cpu(&read_phys, |id| machine.add_cpu(id));
    loader::describe(info_address, &mut machine);
    machine.seed = seed();
    machine
}

/// Asks the CPU for random bytes.
fn seed() -> Option<[u8; SEED_BYTES]> {
    const WORD_BYTES: usize = size_of::<u64>();
    /// The source may be empty for a moment.
    const TRIES: u32 = 10;
    let source = RdRand::new()?;
    let mut seed = [0; SEED_BYTES];
    let (words, _) = seed.as_chunks_mut::<WORD_BYTES>();
    for word in words {
        *word = (0..TRIES).find_map(|_| source.get_u64())?.to_ne_bytes();
    }
    Some(seed)
}

/// Reads physical memory as the boot table maps it.
fn read_phys(address: usize, len: usize) -> Option<&'static [u8]> {
    let end = address.checked_add(len)?;
    if end > MAPPED_AT_BOOT {
        return None;
    }
    // SAFETY: the boot table is in force and maps the range linearly; the tables that are read
    // through this do not change.
    Some(unsafe { core::slice::from_raw_parts(linear(address) as *const u8, len) })
}

/// Forgets this CPU's cached translations.
pub(crate) fn flush_tlb() {
    axcpu::asm::flush_tlb(None);
}
