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

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};
    use core::{ops::Range, result::Result};

    use axdevice::Lock;
    use axdevice::OutsideRam;
    use axvm_types::GuestPhysAddr;

    use super::*;
    use crate::{
        Error,
        boot::{place, recognise, samples},
    };

    const RAM: usize = 0x8000_0000;
    const SIZE: usize = 8 << 20;

    /// RAM of zeros at 2 GiB.
    struct Flat(Lock<Vec<u8>>);

    impl Flat {
        fn new() -> Self {
            Self(Lock::new(vec![0; SIZE]))
        }

        fn at(&self, start: GuestPhysAddr, size: usize) -> Vec<u8> {
            let mut bytes = vec![0; size];
            self.read(start, &mut bytes).unwrap();
            bytes
        }

        fn range(start: GuestPhysAddr, size: usize) -> Result<Range<usize>, OutsideRam> {
            let first = start.as_usize().wrapping_sub(RAM);
            let end = first.saturating_add(size);
            let outside = OutsideRam {
                start,
                size_bytes: size,
            };
            (end <= SIZE).then_some(first..end).ok_or(outside)
        }
    }

    impl GuestMemory for Flat {
        fn read(&self, from: GuestPhysAddr, to: &mut [u8]) -> Result<(), OutsideRam> {
            let range = Self::range(from, to.len())?;
            to.copy_from_slice(&self.0.lock()[range]);
            Ok(())
        }

        fn write(&self, to: GuestPhysAddr, from: &[u8]) -> Result<(), OutsideRam> {
            let range = Self::range(to, from.len())?;
            self.0.lock()[range].copy_from_slice(from);
            Ok(())
        }
    }

    #[test]
    fn kernel_initrd_and_tree_are_copied_to_their_places() {
        let regions = [samples::region(RAM as u64, SIZE as u64)];
        let mut boot = samples::boot(&[1, 2, 3, 4, 5]);
        boot.initrd = Some(samples::shared(&[9; 5000]));
        let image = recognise(&boot.kernel).unwrap();
        let placement = place(&image, &boot, &samples::riscv(&regions)).unwrap();
        let ram = Flat::new();
        load(&placement, &ram).unwrap();
        load_fdt(&placement, &[8; 100], &ram).unwrap();

        assert_eq!(ram.at(placement.entry, 7), [1, 2, 3, 4, 5, 0, 0]);
        let initrd = placement.initrd.unwrap().range;
        assert_eq!(ram.at(initrd.start, 5000), [9; 5000]);
        assert_eq!(ram.at(placement.fdt.unwrap().start, 100), [8; 100]);
    }

    #[test]
    fn a_tree_larger_than_its_room_is_refused() {
        let regions = [samples::region(RAM as u64, SIZE as u64)];
        let boot = samples::boot(&[1, 2, 3, 4, 5]);
        let image = recognise(&boot.kernel).unwrap();
        let mut placement = place(&image, &boot, &samples::riscv(&regions)).unwrap();
        let blob = vec![1; (64 << 10) + 1];
        let error = load_fdt(&placement, &blob, &Flat::new()).unwrap_err();
        assert!(
            matches!(error, Error::Image(ImageError::FdtTooLarge { .. })),
            "{error}"
        );
        placement.fdt = None;
        let error = load_fdt(&placement, &[1], &Flat::new()).unwrap_err();
        assert!(
            matches!(error, Error::Image(ImageError::NoRoomForFdt { .. })),
            "{error}"
        );
    }
}
