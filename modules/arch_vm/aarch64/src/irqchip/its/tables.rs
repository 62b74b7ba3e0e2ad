// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The tables of devices, events and collections in the guest's memory.
//!
//! Entries have eight bytes, in a format of ours. They are read when they are
//! used and never kept. An entry outside its table, or outside RAM, or with an
//! impossible value, is not there.
//!
//! Spec: Arm GIC Architecture Specification v3, `GITS_BASER<n>`, "ITS tables".

use axdevice::GuestMemory;
use axvm::GuestPhysAddr;
use tock_registers::LocalRegisterCopy;

use super::super::lpi;
use crate::regs::{BASER, COLLECTION_ENTRY, DEVICE_ENTRY, EVENT_ENTRY};

const ENTRY_BYTES: u64 = 8;
const TABLES: usize = 2;
const DEVICES: usize = 0;
const COLLECTIONS: usize = 1;
/// Device, event and collection numbers have 16 bits.
const NUMBERS: u64 = 1 << 16;
/// The most bits of an event's number, less one.
const EVENT_BITS_MAX: u64 = 15;

/// What the registers say about the two tables.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tables([u64; TABLES]);

/// A device's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Where its table is.
    pub(super) table: u64,
    /// The bits of an event's number, less one.
    pub(super) bits: u64,
}

/// What an event becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) intid: u32,
    pub(super) collection: u64,
}

impl Tables {
    /// Reads a table's register.
    pub(super) fn register(&self, index: usize) -> u64 {
        let kind = match index {
            DEVICES => BASER::TYPE::Devices,
            COLLECTIONS => BASER::TYPE::Collections,
            _ => return 0,
        };
        let entry_size = BASER::ENTRY_SIZE.val(ENTRY_BYTES.wrapping_sub(1));
        self.0.get(index).copied().unwrap_or(0) | (kind + entry_size).value
    }

    /// Writes a table's register; there is no second level.
    pub(super) fn set_register(&mut self, index: usize, value: u64) {
        let mut table = LocalRegisterCopy::<u64, BASER::Register>::new(value);
        table.modify(BASER::TYPE.val(0) + BASER::ENTRY_SIZE.val(0) + BASER::INDIRECT.val(0));
        if let Some(register) = self.0.get_mut(index) {
            *register = table.get();
        }
    }

    /// Returns where an entry of a table is.
    fn entry(&self, index: usize, number: u64) -> Option<GuestPhysAddr> {
        let table = LocalRegisterCopy::<u64, BASER::Register>::new(*self.0.get(index)?);
        let page_bytes: u64 = match table.read(BASER::PAGE_SIZE) {
            0 => 0x1000,
            1 => 0x4000,
            _ => 0x1_0000,
        };
        let pages = table.read(BASER::SIZE).saturating_add(1);
        let offset = number.checked_mul(ENTRY_BYTES)?;
        let is_inside = offset < pages.saturating_mul(page_bytes) && number < NUMBERS;
        let start = table.read(BASER::ADDRESS) << 12 & !page_bytes.wrapping_sub(1);
        let is_there = table.is_set(BASER::VALID) && is_inside;
        is_there.then(|| GuestPhysAddr::from_usize(start.wrapping_add(offset) as usize))
    }

    /// Returns a device's events, if it is mapped.
    pub(super) fn device(&self, memory: &dyn GuestMemory, device: u64) -> Option<Device> {
        let word = read(memory, self.entry(DEVICES, device)?)?;
        let entry = LocalRegisterCopy::<u64, DEVICE_ENTRY::Register>::new(word);
        entry.is_set(DEVICE_ENTRY::VALID).then(|| Device {
            table: entry.read(DEVICE_ENTRY::TABLE) << 8,
            bits: entry.read(DEVICE_ENTRY::BITS),
        })
    }

    /// Maps a device, or forgets it.
    pub(super) fn set_device(&self, memory: &dyn GuestMemory, number: u64, device: Option<Device>) {
        let word = device.map_or(0, |device| {
            let valid = DEVICE_ENTRY::VALID::SET + DEVICE_ENTRY::BITS.val(device.bits);
            (valid + DEVICE_ENTRY::TABLE.val(device.table >> 8)).value
        });
        write(memory, self.entry(DEVICES, number), word);
    }

    /// Returns the vCPU of a collection, if it is mapped.
    pub(super) fn collection(&self, memory: &dyn GuestMemory, number: u64) -> Option<usize> {
        let word = read(memory, self.entry(COLLECTIONS, number)?)?;
        let entry = LocalRegisterCopy::<u64, COLLECTION_ENTRY::Register>::new(word);
        let vcpu = entry.read(COLLECTION_ENTRY::VCPU) as usize;
        entry.is_set(COLLECTION_ENTRY::VALID).then_some(vcpu)
    }

    /// Maps a collection to a vCPU, or forgets it.
    pub(super) fn set_collection(&self, memory: &dyn GuestMemory, number: u64, vcpu: Option<u64>) {
        let word = vcpu.map_or(0, |vcpu| {
            (COLLECTION_ENTRY::VALID::SET + COLLECTION_ENTRY::VCPU.val(vcpu)).value
        });
        write(memory, self.entry(COLLECTIONS, number), word);
    }
}

impl Device {
    fn entry(&self, event: u64) -> Option<GuestPhysAddr> {
        let bits = self.bits.min(EVENT_BITS_MAX).saturating_add(1);
        let offset = event.checked_mul(ENTRY_BYTES)?;
        let is_inside = event < 1_u64.wrapping_shl(bits as u32);
        is_inside.then(|| GuestPhysAddr::from_usize(self.table.wrapping_add(offset) as usize))
    }

    /// Returns what an event becomes, if it is mapped.
    pub(super) fn event(&self, memory: &dyn GuestMemory, event: u64) -> Option<Event> {
        let word = read(memory, self.entry(event)?)?;
        let entry = LocalRegisterCopy::<u64, EVENT_ENTRY::Register>::new(word);
        let intid = entry.read(EVENT_ENTRY::INTID) as u32;
        let is_there = entry.is_set(EVENT_ENTRY::VALID) && is_lpi(intid);
        is_there.then(|| Event {
            intid,
            collection: entry.read(EVENT_ENTRY::COLLECTION),
        })
    }

    /// Maps an event, or forgets it.
    pub(super) fn set_event(&self, memory: &dyn GuestMemory, number: u64, event: Option<Event>) {
        let word = event.map_or(0, |event| {
            let valid = EVENT_ENTRY::VALID::SET + EVENT_ENTRY::INTID.val(event.intid.into());
            (valid + EVENT_ENTRY::COLLECTION.val(event.collection)).value
        });
        write(memory, self.entry(number), word);
    }
}

/// Tells whether there is an LPI of this number.
pub(super) fn is_lpi(intid: u32) -> bool {
    (lpi::FIRST..1 << lpi::ID_BITS).contains(&intid)
}

fn read(memory: &dyn GuestMemory, at: GuestPhysAddr) -> Option<u64> {
    let mut bytes = [0; ENTRY_BYTES as usize];
    memory.read(at, &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Writes an entry; one that is nowhere is lost.
fn write(memory: &dyn GuestMemory, at: Option<GuestPhysAddr>, word: u64) {
    if let Some(at) = at {
        let _ = memory.write(at, &word.to_le_bytes());
    }
}
