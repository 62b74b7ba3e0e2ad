// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the device tree says about the machine, and where this image ends.
//!
//! Called once by `entry`. Hands the clock's frequency on to `timer`.

use super::timer;
use crate::firmware::fdt::{self, Tree};
use crate::machine::{Failure, HardwareId, Machine};

/// Where reachable RAM ends: nowhere, as translation is off.
pub const MAPPED_END: u64 = u64::MAX;

unsafe extern "C" {
    static __image_end: u8;
}

/// Returns the first address after this image and its stacks.
pub fn image_end() -> u64 {
    (&raw const __image_end).addr() as u64
}

/// Reads the device tree that firmware handed over.
pub fn discover(boot_hart: HardwareId, device_tree: usize) -> Result<Machine, Failure> {
    let blob = blob_at(device_tree).ok_or(Failure("no device tree"))?;
    let tree = Tree::new(blob)?;
    let timebase_hz = tree.timebase_hz();
    timer::set_frequency_hz(timebase_hz.ok_or(Failure("no timebase-frequency"))?);
    Ok(tree.machine(boot_hart))
}

fn blob_at(address: usize) -> Option<&'static [u8]> {
    let first_words = address as *const [u32; 2];
    if first_words.is_null() || !first_words.is_aligned() {
        return None;
    }
    // SAFETY: firmware says that the device tree is here; it is aligned.
    let size = fdt::size_of_blob(unsafe { first_words.read_volatile() })?;
    // SAFETY: the blob states this size, and nobody writes to it meanwhile.
    Some(unsafe { core::slice::from_raw_parts(first_words.cast(), size as usize) })
}
