// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The interrupt translation service: from a device's message to an LPI.
//!
//! The guest gives it tables and a queue of commands in its own memory. What is
//! in the tables is the guest's word: each entry is checked when it is used, and
//! an impossible one is as one that is not there. An access of the registers
//! works through a bounded part of the queue, the next one goes on: the guest
//! sees how far by GITS_CREADR, which is how drivers wait.
//!
//! Registers are in this file, the queue's commands in `commands`, the tables
//! in `tables`. Used by `irqchip` for guests with a GICv3.
//!
//! Spec: Arm GIC Architecture Specification v3, "The Interrupt Translation
//! Service", "ITS register map".

mod commands;
mod tables;
#[cfg(test)]
mod tests;

use axdevice::GuestMemory;
use axvm::{AccessWidth, GuestPhysAddr};
use tock_registers::LocalRegisterCopy;

use super::state::State;
use crate::regs::{BASER, CBASER, GITS_CTLR};
use commands::{Command, QUEUE_STEPS};
use tables::Tables;

/// Both frames: the registers, and the one that devices write messages to.
pub(crate) const BYTES: u64 = 0x2_0000;

const CONTROL: u64 = 0x000;
const TYPE: u64 = 0x008;
const QUEUE: u64 = 0x080;
const QUEUE_WRITE: u64 = 0x088;
const QUEUE_READ: u64 = 0x090;
const TABLES: u64 = 0x100;
const TABLES_END: u64 = 0x140;
const PERIPHERAL_ID_2: u64 = 0xffe8;
const TRANSLATER: u64 = 0x1_0040;

const IMPLEMENTER_ARM: u64 = 0x43b << 32;
const ARCHITECTURE_V3: u64 = 0x3b;
/// Device and event numbers of 16 bits, entries of 8 bytes; redistributors are
/// named by number, collections have 16 bits.
const TYPE_VALUE: u64 = 15 << 13 | 15 << 8 | 7 << 4 | 1;
const COMMAND_BYTES: u64 = 32;
/// The offset in the queue, of 32-byte commands.
const QUEUE_OFFSET: u64 = 0xf_ffe0;

/// The service of one machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Its {
    is_enabled: bool,
    queue: u64,
    written: u64,
    read: u64,
    tables: Tables,
}

/// Where the service works: the interrupts and the guest's memory.
pub(crate) struct Surroundings<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) memory: &'a dyn GuestMemory,
}

impl Its {
    /// Reads a register.
    pub(crate) fn read(
        &mut self,
        around: &mut Surroundings<'_>,
        offset: u64,
        width: AccessWidth,
    ) -> u64 {
        if offset & !7 == QUEUE_READ {
            self.work(around);
        }
        let register = self.register(offset & !7);
        match (width, offset & 7) {
            (AccessWidth::Qword, 0) => register,
            (AccessWidth::Dword, 0) => register & 0xffff_ffff,
            (AccessWidth::Dword, 4) => register >> 32,
            _ => 0,
        }
    }

    /// Writes a register.
    pub(crate) fn write(
        &mut self,
        around: &mut Surroundings<'_>,
        offset: u64,
        data: (AccessWidth, u64),
    ) {
        let old = self.register(offset & !7);
        let (width, value) = data;
        let low = value & 0xffff_ffff;
        let merged = match (width, offset & 7) {
            (AccessWidth::Qword, 0) => value,
            (AccessWidth::Dword, 0) => old & !0xffff_ffff | low,
            (AccessWidth::Dword, 4) => old & 0xffff_ffff | low << 32,
            // Messages may have 16 bits, too.
            _ => value & 0xffff,
        };
        match offset & !7 {
            TRANSLATER => Command::message(0, value as u32).carry_out(&self.tables, around),
            offset => self.write_register(offset, merged),
        }
        self.work(around);
    }

    fn register(&self, offset: u64) -> u64 {
        match offset {
            CONTROL => {
                let enabled = GITS_CTLR::ENABLED.val(self.is_enabled.into());
                let quiescent = GITS_CTLR::QUIESCENT.val((self.read == self.written).into());
                (enabled + quiescent).value | IMPLEMENTER_ARM
            }
            TYPE => TYPE_VALUE,
            QUEUE => self.queue,
            QUEUE_WRITE => self.written,
            QUEUE_READ => self.read,
            TABLES..TABLES_END => self.tables.register(table_index(offset)),
            PERIPHERAL_ID_2 => ARCHITECTURE_V3,
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u64) {
        match offset {
            CONTROL => {
                let value = LocalRegisterCopy::<u64, GITS_CTLR::Register>::new(value);
                self.is_enabled = value.is_set(GITS_CTLR::ENABLED);
            }
            // The queue and the tables are the service's while it is enabled.
            QUEUE if !self.is_enabled => {
                self.queue = value;
                (self.read, self.written) = (0, 0);
            }
            QUEUE_WRITE => self.written = value & QUEUE_OFFSET,
            TABLES..TABLES_END if !self.is_enabled => {
                self.tables.set_register(table_index(offset), value);
            }
            _ => {}
        }
    }

    /// Carries out the next commands of the queue.
    fn work(&mut self, around: &mut Surroundings<'_>) {
        let queue = LocalRegisterCopy::<u64, CBASER::Register>::new(self.queue);
        let pages = queue.read(CBASER::SIZE).saturating_add(1);
        let size = pages.saturating_mul(4096);
        if !self.is_enabled || !queue.is_set(CBASER::VALID) || self.written >= size {
            return;
        }
        let start = queue.read(CBASER::ADDRESS) << 12;
        let mut steps = QUEUE_STEPS;
        while self.read != self.written && steps > 0 {
            let at = GuestPhysAddr::from_usize(start.wrapping_add(self.read) as usize);
            let command = Command::fetch(at, around.memory);
            steps = steps.saturating_sub(command.steps());
            command.carry_out(&self.tables, around);
            let next = self.read.wrapping_add(COMMAND_BYTES);
            self.read = if next >= size { 0 } else { next };
        }
    }
}

fn table_index(offset: u64) -> usize {
    (offset.wrapping_sub(TABLES) >> 3) as usize
}

const _: () = assert!(BASER::ENTRY_SIZE.mask == 0x1f);
