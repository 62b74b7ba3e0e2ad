// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One vCPU's locality-specific interrupts: messages, not wires.
//!
//! They are banks like any others, all edges of group 1, numbered from 8192 on.
//! The guest keeps their priorities and enables in a table of its memory; the
//! copy here is read when the guest enables them and when it tells the ITS that
//! the table has changed. There are as many as [`BANKS`] hold, whatever the guest
//! writes, so that a guest cannot make the hypervisor remember more.
//!
//! Spec: Arm GIC Architecture Specification v3, "LPIs", `GICR_PROPBASER`,
//! `GICR_PENDBASER`.

use alloc::{boxed::Box, vec, vec::Vec};

use axdevice::GuestMemory;
use axvm::GuestPhysAddr;
use tock_registers::LocalRegisterCopy;

use super::{
    bank::{BANK, Bank, bits, mask},
    state::State,
};
use crate::regs::{PENDBASER, PROPBASER};

/// The first one's number.
pub(crate) const FIRST: u32 = 8192;
/// The bits of an interrupt's number.
pub(crate) const ID_BITS: u32 = 14;
/// How many there are.
pub(crate) const COUNT: usize = (1 << ID_BITS) - FIRST as usize;
/// The first bank's index, as if all numbers had banks.
pub(crate) const FIRST_BANK: usize = FIRST as usize / BANK;
const BANKS: usize = COUNT / BANK;
const PENDING_BYTES: usize = COUNT / 8;
/// Where the pending table's first LPI is.
const PENDING_OFFSET: usize = FIRST as usize / 8;

/// A byte of the table of properties.
const PROPERTY_ENABLED: u8 = 1 << 0;
const PROPERTY_PRIORITY: u8 = 0xf8;

/// The registers of one redistributor that concern them, and the interrupts
/// themselves while they are enabled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lpis {
    banks: Option<Box<[Bank]>>,
    /// The banks in which something is pending, active or listed, a bit each.
    busy: [u32; BANKS / 32],
    /// The words of `busy` that are not zero.
    busy_words: u32,
    /// GICR_PROPBASER and GICR_PENDBASER.
    pub(crate) properties: u64,
    pub(crate) pending_table: u64,
    /// GICR_CTLR.EnableLPIs as the guest wrote it.
    pub(crate) is_wanted: bool,
}

impl Lpis {
    /// Tells whether the guest's wish has not been followed yet.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_wanted != self.banks.is_some()
    }

    pub(crate) fn bank(&self, index: usize) -> Option<&Bank> {
        self.banks.as_ref()?.get(index)
    }

    pub(crate) fn bank_mut(&mut self, index: usize) -> Option<&mut Bank> {
        self.banks.as_mut()?.get_mut(index)
    }

    /// Visits the indices of banks in which something may be going on.
    pub(crate) fn busy_banks(&self) -> impl Iterator<Item = usize> + '_ {
        bits(self.busy_words).flat_map(|word| {
            let busy = self.busy.get(word as usize).copied().unwrap_or(0);
            bits(busy).map(move |bit| (word << 5 | bit) as usize)
        })
    }

    /// Notes whether something is going on in a bank that was changed.
    fn note(&mut self, index: usize) {
        let is_busy = self
            .bank(index)
            .is_some_and(|bank| bank.latch | bank.active | bank.listed != 0);
        let Some(word) = self.busy.get_mut(index / 32) else {
            return;
        };
        *word &= !mask(index as u32 & 31);
        if is_busy {
            *word |= mask(index as u32 & 31);
        }
        let word_mask = mask(index as u32 >> 5);
        match *word {
            0 => self.busy_words &= !word_mask,
            _ => self.busy_words |= word_mask,
        }
    }

    /// Follows the guest's wish to have them or not.
    fn switch(&mut self, memory: &dyn GuestMemory) {
        if self.is_wanted {
            self.banks = Some(vec![Bank::lpis(); BANKS].into_boxed_slice());
            self.read_properties(0, COUNT, memory);
            self.read_pending(memory);
        } else {
            self.write_pending(memory);
            self.banks = None;
            self.busy = [0; BANKS / 32];
            self.busy_words = 0;
        }
    }

    /// Reads the properties of `count` interrupts again; what is not RAM is
    /// disabled.
    fn read_properties(&mut self, first: usize, count: usize, memory: &dyn GuestMemory) {
        let table = LocalRegisterCopy::<u64, PROPBASER::Register>::new(self.properties);
        let start = (table.read(PROPBASER::ADDRESS) << 12) as usize;
        // Fewer bits than LPIs begin with are none at all.
        let ids = 1_usize
            .wrapping_shl(table.read(PROPBASER::ID_BITS) as u32)
            .saturating_mul(2);
        let named = ids.saturating_sub(FIRST as usize).min(COUNT);
        let mut bytes: Vec<u8> = vec![0; count.min(COUNT)];
        let end = first.saturating_add(count).min(named);
        let read = bytes
            .get_mut(..end.saturating_sub(first))
            .unwrap_or_default();
        let at = GuestPhysAddr::from_usize(start.wrapping_add(first));
        if memory.read(at, read).is_err() {
            read.fill(0);
        }
        for (lpi, byte) in (first..).zip(bytes) {
            if let Some(bank) = self.bank_mut(lpi / BANK) {
                bank.set_property(lpi % BANK, byte);
            }
        }
    }

    fn pending_bytes(&self) -> GuestPhysAddr {
        let table = LocalRegisterCopy::<u64, PENDBASER::Register>::new(self.pending_table);
        let start = (table.read(PENDBASER::ADDRESS) << 16) as usize;
        GuestPhysAddr::from_usize(start.wrapping_add(PENDING_OFFSET))
    }

    fn read_pending(&mut self, memory: &dyn GuestMemory) {
        let table = LocalRegisterCopy::<u64, PENDBASER::Register>::new(self.pending_table);
        let mut bytes = [0; PENDING_BYTES];
        let is_zero = table.is_set(PENDBASER::ZEROED);
        if is_zero || memory.read(self.pending_bytes(), &mut bytes).is_err() {
            return;
        }
        for (index, word) in bytes.as_chunks::<4>().0.iter().enumerate() {
            if let Some(bank) = self.bank_mut(index) {
                bank.latch = u32::from_le_bytes(*word);
            }
            self.note(index);
        }
    }

    fn write_pending(&self, memory: &dyn GuestMemory) {
        let mut bytes = [0; PENDING_BYTES];
        for (index, word) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *word = self.bank(index).map_or(0, |bank| bank.latch).to_le_bytes();
        }
        // A table that is no RAM keeps nothing.
        let _ = memory.write(self.pending_bytes(), &bytes);
    }
}

impl Bank {
    /// Makes a bank of LPIs, all disabled.
    fn lpis() -> Self {
        Self {
            group1: u32::MAX,
            ..Self::new(u32::MAX)
        }
    }

    fn set_property(&mut self, bit: usize, property: u8) {
        let mask = mask(bit as u32);
        self.enabled &= !mask;
        if property & PROPERTY_ENABLED != 0 {
            self.enabled |= mask;
        }
        if let Some(priority) = self.priority.get_mut(bit) {
            *priority = property & PROPERTY_PRIORITY;
        }
    }
}

impl State {
    fn lpis_mut(&mut self, cpu: usize) -> Option<&mut Lpis> {
        self.privates.get_mut(cpu).map(|private| &mut private.lpis)
    }

    /// Follows what redistributors were told about LPIs.
    pub(crate) fn switch_lpis(&mut self, memory: &dyn GuestMemory) {
        self.has_stale_lpis = false;
        for private in &mut self.privates {
            if private.lpis.is_stale() {
                private.lpis.switch(memory);
            }
        }
        self.attend_all();
    }

    /// Makes an LPI pending at a vCPU, or takes that back.
    pub(crate) fn set_lpi(&mut self, cpu: usize, intid: u32, is_pending: bool) {
        if let Some((bank, bit)) = self.bank_mut(cpu, intid) {
            bank.latch &= !mask(bit);
            if is_pending {
                bank.latch |= mask(bit);
            }
        }
        self.note_lpi(cpu, intid);
        self.attend_vcpu(cpu);
    }

    /// Notes whether something is going on where an LPI was changed.
    pub(crate) fn note_lpi(&mut self, cpu: usize, intid: u32) {
        let index = (intid as usize / BANK).checked_sub(FIRST_BANK);
        if let Some(index) = index
            && let Some(lpis) = self.lpis_mut(cpu)
        {
            lpis.note(index);
        }
    }

    /// Moves an LPI that is pending from one vCPU to another.
    pub(crate) fn move_lpi(&mut self, from: usize, to: usize, intid: u32) {
        let is_pending = self
            .bank_mut(from, intid)
            .is_some_and(|(bank, bit)| bank.latch & mask(bit) != 0);
        if is_pending && from != to {
            self.set_lpi(from, intid, false);
            self.set_lpi(to, intid, true);
        }
    }

    /// Moves all LPIs that are pending.
    pub(crate) fn move_all_lpis(&mut self, from: usize, to: usize) {
        let Some(private) = self.privates.get(from) else {
            return;
        };
        let banks: Vec<usize> = private.lpis.busy_banks().collect();
        for index in banks {
            let latch = self.privates.get(from);
            let latch = latch.and_then(|private| private.lpis.bank(index));
            let latch = latch.map_or(0, |bank| bank.latch);
            let first = FIRST_BANK.saturating_add(index).saturating_mul(BANK) as u32;
            bits(latch).for_each(|bit| self.move_lpi(from, to, first | bit));
        }
    }

    /// Reads an LPI's properties again.
    pub(crate) fn reread_lpi(&mut self, cpu: usize, intid: u32, memory: &dyn GuestMemory) {
        let Some(lpi) = intid.checked_sub(FIRST) else {
            return;
        };
        if let Some(lpis) = self.lpis_mut(cpu) {
            lpis.read_properties(lpi as usize, 1, memory);
        }
        self.attend_vcpu(cpu);
    }

    /// Reads the properties of all LPIs again.
    pub(crate) fn reread_lpis(&mut self, cpu: usize, memory: &dyn GuestMemory) {
        if let Some(lpis) = self.lpis_mut(cpu) {
            lpis.read_properties(0, COUNT, memory);
        }
        self.attend_vcpu(cpu);
    }
}
