// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The bus: which device answers which address.
//!
//! Three spaces (memory-mapped, port, system register), each a list of regions
//! sorted by start, so that an access costs a binary search. The list is
//! complete before the first vCPU runs and never changes afterwards: no lock
//! but the device's own is taken on an access. Regions may not overlap.

use alloc::vec::Vec;

use axvm_types::{AccessWidth, GuestPhysAddr, Port, SysRegAddr};

use crate::{AccessFault, SharedDevice};

/// A range of one address space: `start ..= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    start: u64,
    last: u64,
}

impl Region {
    /// Makes the region of `size` addresses from `start`; it may not be empty or wrap.
    pub fn new(start: u64, size: u64) -> Result<Self, BusError> {
        let last = size.checked_sub(1).and_then(|rest| start.checked_add(rest));
        match last {
            Some(last) => Ok(Self { start, last }),
            None => Err(BusError::BadRegion { start, size }),
        }
    }

    /// Returns the first address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the last address.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Tells whether the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    /// Returns the offset of an access of `size` bytes that lies wholly inside.
    fn offset_of(&self, address: u64, size: u64) -> Option<u64> {
        let offset = address.checked_sub(self.start)?;
        let end = address.checked_add(size.checked_sub(1)?)?;
        (end <= self.last).then_some(offset)
    }
}

/// Why a device could not be put on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The region is empty or runs past the end of the address space.
    #[error("device region at {start:#x} of size {size:#x} is empty or wraps")]
    BadRegion {
        /// First address.
        start: u64,
        /// Number of addresses.
        size: u64,
    },
    /// The region shares addresses with a device that is already there.
    #[error("device region {new:x?} overlaps {old:x?}")]
    Overlap {
        /// The region that was to be added.
        new: Region,
        /// The region that is there.
        old: Region,
    },
}

/// A region and the device behind it.
struct Slot {
    region: Region,
    device: SharedDevice,
}

/// One address space of the bus.
#[derive(Default)]
struct Space {
    slots: Vec<Slot>,
}

impl Space {
    fn add(&mut self, region: Region, device: SharedDevice) -> Result<(), BusError> {
        let at = self
            .slots
            .partition_point(|s| s.region.start < region.start);
        let near = [at.checked_sub(1), Some(at)];
        let clash = near
            .into_iter()
            .flatten()
            .filter_map(|i| self.slots.get(i))
            .find(|s| s.region.overlaps(&region));
        if let Some(slot) = clash {
            return Err(BusError::Overlap {
                new: region,
                old: slot.region,
            });
        }
        self.slots.insert(at, Slot { region, device });
        Ok(())
    }

    fn find(&self, address: u64, width: AccessWidth) -> Option<(&SharedDevice, u64)> {
        let after = self.slots.partition_point(|s| s.region.start <= address);
        let slot = self.slots.get(after.checked_sub(1)?)?;
        let offset = slot.region.offset_of(address, width.size() as u64)?;
        Some((&slot.device, offset))
    }

    fn read(&self, address: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let (device, offset) = self.find(address, width).ok_or(AccessFault)?;
        device.lock().read(offset, width)
    }

    fn write(&self, address: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let (device, offset) = self.find(address, width).ok_or(AccessFault)?;
        device.lock().write(offset, width, value)
    }
}

/// The devices of one VM.
#[derive(Default)]
pub struct AxVmDevices {
    mmio: Space,
    port: Space,
    sys_reg: Space,
}

impl AxVmDevices {
    /// Makes a bus without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a device at a range of guest physical addresses.
    pub fn add_mmio(&mut self, region: Region, device: SharedDevice) -> Result<(), BusError> {
        self.mmio.add(region, device)
    }

    /// Puts a device at a range of I/O ports.
    pub fn add_port(&mut self, region: Region, device: SharedDevice) -> Result<(), BusError> {
        self.port.add(region, device)
    }

    /// Puts a device at a range of system register numbers.
    pub fn add_sys_reg(&mut self, region: Region, device: SharedDevice) -> Result<(), BusError> {
        self.sys_reg.add(region, device)
    }

    /// Reads guest physical address `address`.
    pub fn handle_mmio_read(
        &self,
        address: GuestPhysAddr,
        width: AccessWidth,
    ) -> Result<u64, AccessFault> {
        self.mmio.read(address.as_usize() as u64, width)
    }

    /// Writes guest physical address `address`.
    pub fn handle_mmio_write(
        &self,
        address: GuestPhysAddr,
        width: AccessWidth,
        value: u64,
    ) -> Result<(), AccessFault> {
        self.mmio.write(address.as_usize() as u64, width, value)
    }

    /// Reads an I/O port.
    pub fn handle_port_read(&self, port: Port, width: AccessWidth) -> Result<u64, AccessFault> {
        self.port.read(u64::from(port.number()), width)
    }

    /// Writes an I/O port.
    pub fn handle_port_write(
        &self,
        port: Port,
        width: AccessWidth,
        value: u64,
    ) -> Result<(), AccessFault> {
        self.port.write(u64::from(port.number()), width, value)
    }

    /// Reads a system register; its region counts registers, not bytes.
    pub fn handle_sys_reg_read(&self, register: SysRegAddr) -> Result<u64, AccessFault> {
        self.sys_reg.read(register.addr() as u64, AccessWidth::Byte)
    }

    /// Writes a system register.
    pub fn handle_sys_reg_write(
        &self,
        register: SysRegAddr,
        value: u64,
    ) -> Result<(), AccessFault> {
        let address = register.addr() as u64;
        self.sys_reg.write(address, AccessWidth::Byte, value)
    }
}
