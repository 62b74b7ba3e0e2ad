// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the device tree says about the machine, and where this image ends.
//!
//! Called once by `entry`. Hands the PSCI conduit on to `power`, the interrupt
//! controller to `gic`. An ELF file is started without the tree's address;
//! QEMU then leaves the tree at the base of RAM.

use super::entry::MAPPED_GIB;
use super::{gic, power, sysreg_read};
use crate::firmware::arm;
use crate::firmware::fdt::{self, Tree};
use crate::machine::{Failure, HardwareId, Machine};

/// Where the identity map ends.
pub const MAPPED_END: u64 = (MAPPED_GIB as u64) << 30;

const RAM_BASE: usize = 0x4000_0000;
const AFFINITY: u64 = 0xff_00ff_ffff;

unsafe extern "C" {
    static __image_end: u8;
}

/// Returns the first address after this image and its stacks.
pub fn image_end() -> u64 {
    (&raw const __image_end).addr() as u64
}

/// Reads the device tree that the loader handed over or left behind.
pub fn discover(device_tree: usize) -> Result<Machine, Failure> {
    let blob = blob_at(device_tree).or_else(|| blob_at(RAM_BASE));
    let tree = Tree::new(blob.ok_or(Failure("no device tree"))?)?;
    let conduit = arm::psci_conduit(&tree);
    power::set_conduit(conduit.ok_or(Failure("no PSCI in the device tree"))?);
    gic::set(arm::gic(&tree).ok_or(Failure("no GIC in the device tree"))?);
    Ok(tree.machine(HardwareId(sysreg_read!("mpidr_el1") & AFFINITY)))
}

fn blob_at(address: usize) -> Option<&'static [u8]> {
    let first_words = address as *const [u32; 2];
    if address < RAM_BASE || address as u64 >= MAPPED_END || !first_words.is_aligned() {
        return None;
    }
    // SAFETY: aligned, and in mapped memory where the loader puts the tree.
    let size = fdt::size_of_blob(unsafe { first_words.read_volatile() })?;
    // SAFETY: the blob states this size, and nobody writes to it meanwhile.
    Some(unsafe { core::slice::from_raw_parts(first_words.cast(), size as usize) })
}
