// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Copies what was placed into guest RAM.
//!
//! RAM is zeroed before each boot, so that nothing is written for the zeros
//! behind a kernel's bytes.

use axdevice::GuestMemory;

use super::{ImageError, Placed, Placement, bytes::length};
use crate::Result;

/// Copies the kernel and the initrd.
pub fn load(placement: &Placement<'_>, ram: &dyn GuestMemory) -> Result<()> {
    for part in placement.kernel.iter().chain(&placement.initrd) {
        copy(part, ram)?;
    }
    Ok(())
}

/// Copies the device tree to the room that the placement has for it.
pub fn load_fdt(placement: &Placement<'_>, blob: &[u8], ram: &dyn GuestMemory) -> Result<()> {
    let size_bytes = length(blob);
    let room = placement
        .fdt
        .ok_or(ImageError::NoRoomForFdt { size_bytes })?;
    if size_bytes > room.size_bytes {
        Err(ImageError::FdtTooLarge {
            size_bytes,
            max_bytes: room.size_bytes,
        })?;
    }
    Ok(ram.write(room.start, blob)?)
}

fn copy(part: &Placed<'_>, ram: &dyn GuestMemory) -> Result<()> {
    Ok(ram.write(part.range.start, part.bytes)?)
}
