// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A virtio-mmio slot without a device, as QEMU's `virt` machines have them.
//!
//! A guest that probes it finds a transport and device id 0, which says that
//! nothing is there. The transport says version 1, as QEMU's does unless it is
//! told otherwise. Nothing can be written and no interrupt comes.
//!
//! Spec: Virtual I/O Device (VIRTIO), "MMIO Device Register Layout".

use alloc::sync::Arc;

use crate::{
    AccessFault, AccessWidth, AxVmDevices, BusError, IoDevice, Region, SharedDevice, shared,
    word_lanes,
};

/// Size of a slot's region.
pub const SLOT_BYTES: u64 = 0x200;

const MAGIC: u64 = 0x000;
const VERSION: u64 = 0x004;
const VENDOR: u64 = 0x00c;

/// "virt", as a little-endian word.
const MAGIC_VALUE: u32 = 0x7472_6976;
const LEGACY: u32 = 1;
/// "QEMU".
const VENDOR_VALUE: u32 = 0x554d_4551;

/// A slot without a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmptySlot;

/// Puts empty slots on a bus.
pub fn add_empty_slots(
    devices: &mut AxVmDevices,
    starts: impl Iterator<Item = u64>,
) -> Result<(), BusError> {
    // They have no state, so one stands for all.
    let slot: SharedDevice = shared(EmptySlot);
    for start in starts {
        devices.add_mmio(Region::new(start, SLOT_BYTES)?, Arc::clone(&slot))?;
    }
    Ok(())
}

fn register(offset: u64) -> u32 {
    match offset {
        MAGIC => MAGIC_VALUE,
        VERSION => LEGACY,
        VENDOR => VENDOR_VALUE,
        _ => 0,
    }
}

impl IoDevice for EmptySlot {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        word_lanes::read(offset, width, SLOT_BYTES, register)
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        word_lanes::write((offset, value), width, SLOT_BYTES, |_, _| {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axvm_types::GuestPhysAddr;
    use proptest::prelude::*;

    #[test]
    fn a_slot_says_that_it_is_a_transport_without_a_device() {
        let mut slot = EmptySlot;
        let mut read = |offset| slot.read(offset, AccessWidth::Dword).unwrap();
        assert_eq!(
            [read(0), read(4), read(8), read(12)],
            [0x7472_6976, 1, 0, 0x554d_4551]
        );
        assert_eq!(read(0x1fc), 0);
    }

    #[test]
    fn slots_lie_where_they_are_put_and_nothing_lies_between() {
        let mut devices = AxVmDevices::new();
        add_empty_slots(&mut devices, [0x1000, 0x2000].into_iter()).unwrap();
        let read = |at| {
            let at = GuestPhysAddr::from_usize(at);
            devices.handle_mmio_read(at, AccessWidth::Dword)
        };
        assert_eq!((read(0x1000), read(0x2004)), (Ok(0x7472_6976), Ok(1)));
        assert_eq!(
            (read(0x1200), read(0x3000)),
            (Err(AccessFault), Err(AccessFault))
        );
        let again = add_empty_slots(&mut devices, [0x2100].into_iter());
        assert!(again.is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_changes_what_is_read(offset: u64, value: u64, at in 0_u64..0x200) {
            let mut slot = EmptySlot;
            let _ = slot.write(offset, AccessWidth::Qword, value);
            prop_assert_eq!(slot.read(at & !3, AccessWidth::Dword), Ok(register(at & !3).into()));
        }
    }
}
