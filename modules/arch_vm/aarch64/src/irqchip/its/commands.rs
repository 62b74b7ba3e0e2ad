// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The commands of the service's queue.
//!
//! Each is four words of the guest's memory. One that names what is not mapped,
//! or cannot be, does nothing, and the queue goes on. SYNC and VSYNC have nothing
//! to wait for: a command is done when the next one is fetched.
//!
//! Spec: Arm GIC Architecture Specification v3, "ITS commands".

use axdevice::GuestMemory;
use axvm::GuestPhysAddr;
use tock_registers::{LocalRegisterCopy, fields::Field};

use super::{
    Surroundings,
    tables::{Device, Event, Tables, is_lpi},
};
use crate::regs::{COMMAND_0, COMMAND_1, COMMAND_2, COMMAND_3};

/// What one access may do of the queue, in steps of small commands.
pub(super) const QUEUE_STEPS: u32 = 128;
/// Commands that go through all LPIs of a vCPU.
const LONG_STEPS: u32 = 32;

const MOVI: u64 = 0x01;
const INT: u64 = 0x03;
const CLEAR: u64 = 0x04;
const MAPD: u64 = 0x08;
const MAPC: u64 = 0x09;
const MAPTI: u64 = 0x0a;
const MAPI: u64 = 0x0b;
const INV: u64 = 0x0c;
const INVALL: u64 = 0x0d;
const MOVALL: u64 = 0x0e;
const DISCARD: u64 = 0x0f;

/// One command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Command([u64; 4]);

/// An event that is mapped, to a vCPU that there is.
#[derive(Clone, Copy, Debug)]
struct Mapped {
    device: Device,
    event: Event,
    vcpu: usize,
}

impl Command {
    /// Reads a command; what is not RAM does nothing.
    pub(super) fn fetch(at: GuestPhysAddr, memory: &dyn GuestMemory) -> Self {
        let mut bytes = [0; 32];
        if memory.read(at, &mut bytes).is_err() {
            return Self::default();
        }
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| words.get(index).map_or(0, |word| u64::from_le_bytes(*word));
        Self([0, 1, 2, 3].map(word))
    }

    /// Makes what a device's message does: as INT.
    pub(super) fn message(device: u32, event: u32) -> Self {
        let first = COMMAND_0::KIND.val(INT) + COMMAND_0::DEVICE.val(device.into());
        Self([first.value, event.into(), 0, 0])
    }

    /// Returns what it costs.
    pub(super) fn steps(&self) -> u32 {
        match self.kind() {
            INVALL | MOVALL => LONG_STEPS,
            _ => 1,
        }
    }

    fn kind(&self) -> u64 {
        LocalRegisterCopy::<u64, COMMAND_0::Register>::new(self.0[0]).read(COMMAND_0::KIND)
    }

    fn device(&self) -> u64 {
        LocalRegisterCopy::<u64, COMMAND_0::Register>::new(self.0[0]).read(COMMAND_0::DEVICE)
    }

    fn second(&self, field: Field<u64, COMMAND_1::Register>) -> u64 {
        LocalRegisterCopy::<u64, COMMAND_1::Register>::new(self.0[1]).read(field)
    }

    fn third(&self, field: Field<u64, COMMAND_2::Register>) -> u64 {
        LocalRegisterCopy::<u64, COMMAND_2::Register>::new(self.0[2]).read(field)
    }

    fn is_valid(&self) -> bool {
        self.third(COMMAND_2::VALID) != 0
    }

    /// Does what it says.
    pub(super) fn carry_out(&self, tables: &Tables, around: &mut Surroundings<'_>) {
        match self.kind() {
            MAPD => self.map_device(tables, around),
            MAPC => self.map_collection(tables, around),
            MAPTI => self.map_event(tables, around, self.second(COMMAND_1::INTID)),
            MAPI => self.map_event(tables, around, self.second(COMMAND_1::EVENT)),
            MOVI => self.move_event(tables, around),
            MOVALL => self.move_all(around),
            INVALL => self.reread_all(tables, around),
            DISCARD => self.discard(tables, around),
            INT | CLEAR => self.set_pending(tables, around),
            INV => self.reread(tables, around),
            _ => {}
        }
    }

    fn map_device(&self, tables: &Tables, around: &mut Surroundings<'_>) {
        let device = self.is_valid().then(|| Device {
            table: self.third(COMMAND_2::TABLE) << 8,
            bits: self.second(COMMAND_1::SIZE),
        });
        tables.set_device(around.memory, self.device(), device);
    }

    fn map_collection(&self, tables: &Tables, around: &mut Surroundings<'_>) {
        let number = self.third(COMMAND_2::COLLECTION);
        let vcpu = self.third(COMMAND_2::REDISTRIBUTOR);
        let is_there = (vcpu as usize) < around.state.privates.len();
        if !self.is_valid() {
            tables.set_collection(around.memory, number, None);
        } else if is_there {
            tables.set_collection(around.memory, number, Some(vcpu));
        }
    }

    fn map_event(&self, tables: &Tables, around: &mut Surroundings<'_>, intid: u64) {
        let intid = intid as u32;
        if let Some(device) = tables.device(around.memory, self.device())
            && is_lpi(intid)
        {
            let collection = self.third(COMMAND_2::COLLECTION);
            let event = Event { intid, collection };
            device.set_event(around.memory, self.second(COMMAND_1::EVENT), Some(event));
        }
    }

    /// Finds the event that the command names, with its vCPU.
    fn mapped(&self, tables: &Tables, around: &Surroundings<'_>) -> Option<Mapped> {
        let device = tables.device(around.memory, self.device())?;
        let event = device.event(around.memory, self.second(COMMAND_1::EVENT))?;
        let vcpu = tables.collection(around.memory, event.collection)?;
        let is_there = vcpu < around.state.privates.len();
        is_there.then_some(Mapped {
            device,
            event,
            vcpu,
        })
    }

    fn move_event(&self, tables: &Tables, around: &mut Surroundings<'_>) {
        let collection = self.third(COMMAND_2::COLLECTION);
        let (Some(mapped), Some(to)) = (
            self.mapped(tables, around),
            tables.collection(around.memory, collection),
        ) else {
            return;
        };
        let event = Event {
            collection,
            ..mapped.event
        };
        let number = self.second(COMMAND_1::EVENT);
        mapped.device.set_event(around.memory, number, Some(event));
        around.state.move_lpi(mapped.vcpu, to, event.intid);
    }

    fn move_all(&self, around: &mut Surroundings<'_>) {
        let from = self.third(COMMAND_2::REDISTRIBUTOR) as usize;
        let last = LocalRegisterCopy::<u64, COMMAND_3::Register>::new(self.0[3]);
        let to = last.read(COMMAND_3::REDISTRIBUTOR) as usize;
        if to < around.state.privates.len() {
            around.state.move_all_lpis(from, to);
        }
    }

    fn discard(&self, tables: &Tables, around: &mut Surroundings<'_>) {
        if let Some(mapped) = self.mapped(tables, around) {
            around.state.set_lpi(mapped.vcpu, mapped.event.intid, false);
        }
        if let Some(device) = tables.device(around.memory, self.device()) {
            device.set_event(around.memory, self.second(COMMAND_1::EVENT), None);
        }
    }

    fn set_pending(&self, tables: &Tables, around: &mut Surroundings<'_>) {
        if let Some(Mapped { event, vcpu, .. }) = self.mapped(tables, around) {
            around.state.set_lpi(vcpu, event.intid, self.kind() == INT);
        }
    }

    fn reread(&self, tables: &Tables, around: &mut Surroundings<'_>) {
        if let Some(Mapped { event, vcpu, .. }) = self.mapped(tables, around) {
            around.state.reread_lpi(vcpu, event.intid, around.memory);
        }
    }

    fn reread_all(&self, tables: &Tables, around: &mut Surroundings<'_>) {
        let number = self.third(COMMAND_2::COLLECTION);
        if let Some(vcpu) = tables.collection(around.memory, number) {
            around.state.reread_lpis(vcpu, around.memory);
        }
    }
}
