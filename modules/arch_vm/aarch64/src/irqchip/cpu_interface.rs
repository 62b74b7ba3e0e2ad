// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A GICv2 CPU interface, emulated register by register.
//!
//! Used for guests that see a GICv2; the virtual IRQ line follows
//! [`State::signals`]. There is one security state without groups: every
//! interrupt is an IRQ. Running priorities nest strictly, so that their stack
//! has at most one entry for each of the 32 priorities.
//!
//! Spec: Arm GIC Architecture Specification v2, "CPU interface register map".

use super::{
    bank::mask,
    state::{Candidate, INTIDS, SPURIOUS, State},
};

const CONTROL: u64 = 0x00;
const PRIORITY_MASK: u64 = 0x04;
const BINARY_POINT: u64 = 0x08;
const ACKNOWLEDGE: u64 = 0x0c;
const END: u64 = 0x10;
const RUNNING_PRIORITY: u64 = 0x14;
const HIGHEST_PENDING: u64 = 0x18;
const ALIASED_BINARY_POINT: u64 = 0x1c;
const ACTIVE_PRIORITIES: u64 = 0xd0;
const IDENTIFICATION: u64 = 0xfc;
const DEACTIVATE: u64 = 0x1000;

const ENABLE: u32 = 1 << 0;
const END_IS_DROP: u32 = 1 << 9;
const CONTROL_BITS: u32 = 0x3ff;
/// Architecture version 2, by Arm.
const IDENTIFICATION_V2: u32 = 0x0202_043b;
const IDLE_PRIORITY: u8 = 0xff;
const NESTING_MAX: usize = 32;
const INTID: u32 = 0x3ff;

/// One vCPU's interface.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuInterface {
    control: u32,
    priority_mask: u8,
    binary_point: u8,
    /// What is being served, the least urgent first.
    running: [Option<Candidate>; NESTING_MAX],
    depth: usize,
}

impl CpuInterface {
    fn running_priority(&self) -> u8 {
        let top = self.depth.checked_sub(1);
        top.and_then(|top| self.running.get(top).copied().flatten())
            .map_or(IDLE_PRIORITY, |running| running.priority)
    }

    fn push(&mut self, candidate: Candidate) {
        if let Some(slot) = self.running.get_mut(self.depth) {
            *slot = Some(candidate);
            self.depth = self.depth.saturating_add(1);
        }
    }

    /// Takes out the interrupt that is being served, or the one named.
    fn drop_priority(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}

impl State {
    /// Returns what vCPU `cpu` would acknowledge now.
    fn next_interrupt(&self, cpu: usize) -> Option<Candidate> {
        let interface = &self.privates.get(cpu)?.interface;
        if interface.control & ENABLE == 0 {
            return None;
        }
        let limit = interface.priority_mask.min(interface.running_priority());
        self.candidates(cpu)
            .min()
            .filter(|candidate| candidate.priority < limit)
    }

    /// Tells whether vCPU `cpu`'s interrupt line is high.
    pub(crate) fn signals(&self, cpu: usize) -> bool {
        self.next_interrupt(cpu).is_some()
    }

    /// Reads vCPU `cpu`'s own interface.
    pub(crate) fn read_cpu_interface(&mut self, cpu: usize, offset: u64) -> u64 {
        let Some(private) = self.privates.get(cpu) else {
            return 0;
        };
        let interface = &private.interface;
        let value = match offset & !3 {
            CONTROL => interface.control,
            PRIORITY_MASK => interface.priority_mask.into(),
            BINARY_POINT | ALIASED_BINARY_POINT => interface.binary_point.into(),
            ACKNOWLEDGE => self.acknowledge(cpu),
            RUNNING_PRIORITY => interface.running_priority().into(),
            HIGHEST_PENDING => self.highest_pending(cpu),
            ACTIVE_PRIORITIES => (0..interface.depth).fold(0, |word, at| word | mask(at as u32)),
            IDENTIFICATION => IDENTIFICATION_V2,
            _ => 0,
        };
        value.into()
    }

    /// Writes vCPU `cpu`'s own interface.
    pub(crate) fn write_cpu_interface(&mut self, cpu: usize, offset: u64, value: u32) {
        let Some(private) = self.privates.get_mut(cpu) else {
            return;
        };
        let interface = &mut private.interface;
        match offset & !3 {
            CONTROL => interface.control = value & CONTROL_BITS,
            PRIORITY_MASK => interface.priority_mask = value as u8 & 0xf8,
            BINARY_POINT | ALIASED_BINARY_POINT => interface.binary_point = value as u8 & 7,
            END => {
                interface.drop_priority();
                if interface.control & END_IS_DROP == 0 {
                    self.deactivate(cpu, value & INTID);
                }
            }
            DEACTIVATE => self.deactivate(cpu, value & INTID),
            _ => {}
        }
        self.attention |= 1_u64.wrapping_shl(cpu as u32);
    }

    fn highest_pending(&self, cpu: usize) -> u32 {
        let next = self.next_interrupt(cpu);
        next.map_or(SPURIOUS, |next| self.with_sender(cpu, next.intid))
    }

    /// Adds the sender of an SGI to its number, as acknowledging shows it.
    fn with_sender(&self, cpu: usize, intid: u32) -> u32 {
        let private = self.privates.get(cpu);
        let senders = private.and_then(|private| private.senders.get(intid as usize));
        match senders {
            Some(&senders) if senders != 0 => intid | senders.trailing_zeros() << 10,
            _ => intid,
        }
    }

    fn acknowledge(&mut self, cpu: usize) -> u32 {
        let Some(next) = self.next_interrupt(cpu) else {
            return SPURIOUS;
        };
        let shown = self.with_sender(cpu, next.intid);
        let is_last_sender = self.take_sender(cpu, next.intid);
        if let Some((bank, bit)) = self.bank_mut(cpu, next.intid) {
            bank.active |= mask(bit);
            if is_last_sender {
                bank.latch &= !mask(bit);
            }
        }
        if let Some(private) = self.privates.get_mut(cpu) {
            private.interface.push(next);
        }
        self.attention |= 1_u64.wrapping_shl(cpu as u32);
        shown
    }

    /// Takes the first sender of an SGI out, and tells whether it was the last.
    fn take_sender(&mut self, cpu: usize, intid: u32) -> bool {
        let private = self.privates.get_mut(cpu);
        let senders = private.and_then(|private| private.senders.get_mut(intid as usize));
        senders.is_none_or(|senders| {
            *senders &= senders.wrapping_sub(1);
            *senders == 0
        })
    }

    fn deactivate(&mut self, cpu: usize, intid: u32) {
        if intid >= INTIDS {
            return;
        }
        if let Some((bank, bit)) = self.bank_mut(cpu, intid) {
            bank.active &= !mask(bit);
            self.end_linked(cpu, intid);
            self.attend(cpu, intid);
        }
    }
}
