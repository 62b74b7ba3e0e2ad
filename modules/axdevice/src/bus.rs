// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The bus: which device answers which address.
//!
//! Three spaces (memory-mapped, port, system register), each a list of regions
//! sorted by start, so that an access costs a binary search, or less if it is to
//! the device of the last one. The list is complete before the first vCPU runs
//! and never changes afterwards: no lock but the device's own is taken on an
//! access, and whoever makes one is held on its CPU. Regions may not overlap.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

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
    #[inline]
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

impl Slot {
    /// Returns the device and its offset, if an access lies wholly in the region.
    #[inline]
    fn answers(&self, address: u64, size: u64) -> Option<(&SharedDevice, u64)> {
        let offset = self.region.offset_of(address, size)?;
        Some((&self.device, offset))
    }
}

/// One address space of the bus.
#[derive(Default)]
struct Space {
    slots: Vec<Slot>,
    /// The slot that answered last, where the next access is looked for first.
    last: AtomicUsize,
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

    #[inline]
    fn find(&self, address: u64, width: AccessWidth) -> Option<(&SharedDevice, u64)> {
        let size = 1_u64.wrapping_shl(width as u32);
        let last = self.slots.get(self.last.load(Ordering::Relaxed));
        last.and_then(|slot| slot.answers(address, size))
            .or_else(|| self.search(address, size))
    }

    #[inline(never)]
    fn search(&self, address: u64, size: u64) -> Option<(&SharedDevice, u64)> {
        let after = self.slots.partition_point(|s| s.region.start <= address);
        let at = after.checked_sub(1)?;
        let found = self.slots.get(at)?.answers(address, size)?;
        self.last.store(at, Ordering::Relaxed);
        Some(found)
    }

    fn read(&self, address: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let (device, offset) = self.find(address, width).ok_or(AccessFault)?;
        device.lock_held().read(offset, width)
    }

    fn write(&self, address: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let (device, offset) = self.find(address, width).ok_or(AccessFault)?;
        device.lock_held().write(offset, width, value)
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

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeMap, format, string::ToString, sync::Arc};

    use crate::Lock;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        IoDevice, shared,
        testing::{WIDTHS, any_width},
    };

    /// A device that says who it is and where it was accessed.
    struct Probe {
        id: u64,
        written: Option<(u64, AccessWidth, u64)>,
    }

    impl Probe {
        fn new(id: u64) -> Arc<Lock<Self>> {
            shared(Self { id, written: None })
        }
    }

    impl IoDevice for Probe {
        fn read(&mut self, offset: u64, _: AccessWidth) -> Result<u64, AccessFault> {
            Ok(self.id << 56 | (offset & 0xff_ffff_ffff_ffff))
        }

        fn write(
            &mut self,
            offset: u64,
            width: AccessWidth,
            value: u64,
        ) -> Result<(), AccessFault> {
            self.written = Some((offset, width, value));
            Ok(())
        }
    }

    fn region(start: u64, size: u64) -> Region {
        Region::new(start, size).unwrap()
    }

    fn gpa(address: usize) -> GuestPhysAddr {
        GuestPhysAddr::from_usize(address)
    }

    #[test]
    fn a_region_is_neither_empty_nor_does_it_wrap() {
        for (start, size) in [
            (0, 0),
            (u64::MAX, 0),
            (u64::MAX, 2),
            (1 << 63, (1 << 63) + 1),
        ] {
            let refused = BusError::BadRegion { start, size };
            assert_eq!(Region::new(start, size), Err(refused));
        }
        let last = region(u64::MAX, 1);
        assert_eq!((last.start(), last.last()), (u64::MAX, u64::MAX));
        assert_eq!(region(0, u64::MAX).last(), u64::MAX - 1);
        assert_eq!(region(1, u64::MAX).last(), u64::MAX);
    }

    #[test]
    fn an_overlap_is_refused_and_names_both_regions() {
        let mut bus = AxVmDevices::new();
        bus.add_mmio(region(0x1000, 0x100), Probe::new(1)).unwrap();
        for (start, size) in [
            (0x1000, 0x100),
            (0xfff, 2),
            (0x10ff, 1),
            (0, 0x8000),
            (0x1040, 1),
        ] {
            let new = region(start, size);
            let old = region(0x1000, 0x100);
            let refused = bus.add_mmio(new, Probe::new(2));
            assert_eq!(refused, Err(BusError::Overlap { new, old }));
        }
        bus.add_mmio(region(0xfff, 1), Probe::new(3)).unwrap();
        bus.add_mmio(region(0x1100, 1), Probe::new(4)).unwrap();
    }

    #[test]
    fn a_refusal_says_what_is_wrong() {
        let empty = Region::new(0x1000, 0).unwrap_err().to_string();
        assert_eq!(
            empty,
            "device region at 0x1000 of size 0x0 is empty or wraps"
        );
        let (new, old) = (region(0x10, 1), region(0x10, 2));
        let overlap = BusError::Overlap { new, old }.to_string();
        assert!(overlap.contains("overlaps"), "{overlap}");
        assert_eq!(format!("{AccessFault}"), "no device answers this access");
    }

    #[test]
    fn an_access_past_a_regions_end_is_refused_even_into_a_neighbour() {
        let mut bus = AxVmDevices::new();
        bus.add_mmio(region(0x1000, 8), Probe::new(1)).unwrap();
        bus.add_mmio(region(0x1008, 8), Probe::new(2)).unwrap();
        for (width, size) in WIDTHS {
            for start in 0..8 {
                let read = bus.handle_mmio_read(gpa(0x1000 + start), width);
                assert_eq!(read.is_ok(), start as u64 + size <= 8);
            }
            let before = bus.handle_mmio_write(gpa(0xfff), width, 0);
            assert_eq!(before, Err(AccessFault));
            let behind = bus.handle_mmio_write(gpa(0x1010), width, 0);
            assert_eq!(behind, Err(AccessFault));
        }
    }

    #[test]
    fn the_edges_of_the_address_space_are_addresses_like_any_other() {
        let mut bus = AxVmDevices::new();
        bus.add_mmio(region(0, 4), Probe::new(1)).unwrap();
        bus.add_mmio(region(u64::MAX - 3, 4), Probe::new(2))
            .unwrap();
        let read = |address, width| bus.handle_mmio_read(gpa(address), width);
        assert_eq!(read(0, AccessWidth::Dword), Ok(1 << 56));
        assert_eq!(read(usize::MAX - 3, AccessWidth::Dword), Ok(2 << 56));
        assert_eq!(read(usize::MAX, AccessWidth::Byte), Ok(2 << 56 | 3));
        assert_eq!(read(usize::MAX, AccessWidth::Word), Err(AccessFault));
        assert_eq!(read(usize::MAX - 3, AccessWidth::Qword), Err(AccessFault));
    }

    #[test]
    fn the_three_spaces_do_not_see_each_other() {
        let mut bus = AxVmDevices::new();
        bus.add_mmio(region(0x3f8, 8), Probe::new(1)).unwrap();
        bus.add_port(region(0x3f8, 8), Probe::new(2)).unwrap();
        bus.add_sys_reg(region(0x3f8, 8), Probe::new(3)).unwrap();
        let byte = AccessWidth::Byte;
        assert_eq!(bus.handle_mmio_read(gpa(0x3f9), byte), Ok(1 << 56 | 1));
        assert_eq!(
            bus.handle_port_read(Port::new(0x3fa), byte),
            Ok(2 << 56 | 2)
        );
        let register = SysRegAddr::new(0x3ff);
        assert_eq!(bus.handle_sys_reg_read(register), Ok(3 << 56 | 7));
        assert_eq!(
            bus.handle_sys_reg_read(SysRegAddr::new(0x400)),
            Err(AccessFault)
        );
        let past = bus.handle_port_read(Port::new(0xffff), AccessWidth::Word);
        assert_eq!(past, Err(AccessFault));
    }

    #[test]
    fn writes_reach_the_device_with_offset_width_and_value() {
        let mut bus = AxVmDevices::new();
        let probes = [Probe::new(1), Probe::new(2), Probe::new(3)];
        let [mmio, port, sys_reg] = probes.each_ref().map(|probe| probe.clone());
        bus.add_mmio(region(0x1000, 0x10), mmio).unwrap();
        bus.add_port(region(0x60, 8), port).unwrap();
        bus.add_sys_reg(region(0x800, 4), sys_reg).unwrap();
        let wrote = [
            bus.handle_mmio_write(gpa(0x1008), AccessWidth::Qword, 11),
            bus.handle_port_write(Port::new(0x64), AccessWidth::Dword, 22),
            bus.handle_sys_reg_write(SysRegAddr::new(0x803), u64::MAX),
        ];
        assert_eq!(wrote, [Ok(()); 3]);
        let written = probes.map(|probe| probe.lock().written.unwrap());
        let expected = [
            (8, AccessWidth::Qword, 11),
            (4, AccessWidth::Dword, 22),
            (3, AccessWidth::Byte, u64::MAX),
        ];
        assert_eq!(written, expected);
    }

    /// Addresses near each other, at both ends and in the middle.
    fn any_address() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..64u64,
            (0..64u64).prop_map(|below| u64::MAX - below),
            (1 << 63) - 32..(1 << 63) + 32u64,
            any::<u64>()
        ]
    }

    fn any_size() -> impl Strategy<Value = u64> {
        prop_oneof![8 => 0..24u64, 1 => any::<u64>()]
    }

    /// The bus as it is defined: nothing shared, everything looked through.
    #[derive(Default)]
    struct Model(BTreeMap<u64, (u64, u64)>);

    impl Model {
        fn add(&mut self, id: u64, start: u64, size: u64) -> bool {
            let end = u128::from(start) + u128::from(size);
            if size == 0 || end > 1 << 64 {
                return false;
            }
            let last = start + (size - 1);
            let is_free = self.0.iter().all(|(&s, &(l, _))| last < s || l < start);
            if is_free {
                self.0.insert(start, (last, id));
            }
            is_free
        }

        fn read(&self, address: u64, size: u64) -> Option<u64> {
            let end = u128::from(address) + u128::from(size) - 1;
            let inside = |(&start, &(last, id)): (&u64, &(u64, u64))| {
                let is_inside = start <= address && end <= u128::from(last);
                is_inside.then(|| id << 56 | (address.wrapping_sub(start) & 0xff_ffff_ffff_ffff))
            };
            self.0.iter().find_map(inside)
        }
    }

    proptest! {
        #[test]
        fn a_space_refuses_and_finds_as_its_model_does(
            regions in prop::collection::vec((any_address(), any_size()), 0..40),
            accesses in prop::collection::vec((any_address(), any_width()), 0..60),
        ) {
            let mut space = Space::default();
            let mut model = Model::default();
            for (id, (start, size)) in (0u64..).zip(regions) {
                let added = Region::new(start, size)
                    .and_then(|region| space.add(region, Probe::new(id)));
                prop_assert_eq!(added.is_ok(), model.add(id, start, size));
            }
            prop_assert!(space.slots.is_sorted_by_key(|slot| slot.region.start));
            for (address, width) in accesses {
                let expected = model.read(address, width.size() as u64);
                prop_assert_eq!(space.read(address, width).ok(), expected);
                prop_assert_eq!(space.write(address, width, 0).is_ok(), expected.is_some());
            }
        }

        #[test]
        fn the_whole_bus_answers_by_the_space_of_the_access(
            regions in prop::collection::vec((0..3usize, 0..0x40u64, 1..8u64), 0..30),
            address in 0..0x48u16,
            width in any_width(),
        ) {
            let mut bus = AxVmDevices::new();
            let mut models: [Model; 3] = Default::default();
            for (id, (space, start, size)) in (0u64..).zip(regions) {
                let (region, probe) = (region(start, size), Probe::new(id));
                let added = match space {
                    0 => bus.add_mmio(region, probe),
                    1 => bus.add_port(region, probe),
                    _ => bus.add_sys_reg(region, probe),
                };
                prop_assert_eq!(added.is_ok(), models[space].add(id, start, size));
            }
            let at = u64::from(address);
            let size = width.size() as u64;
            let mmio = bus.handle_mmio_read(gpa(address.into()), width);
            prop_assert_eq!(mmio.ok(), models[0].read(at, size));
            let port = bus.handle_port_read(Port::new(address), width);
            prop_assert_eq!(port.ok(), models[1].read(at, size));
            let sys_reg = bus.handle_sys_reg_read(SysRegAddr::new(address.into()));
            prop_assert_eq!(sys_reg.ok(), models[2].read(at, 1));
        }
    }
}
