// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Between the controller's state and the list registers: a function of values.
//!
//! [`fill`] gives the most urgent interrupts of a vCPU to its list registers,
//! [`fold`] takes back what the guest made of them. Between the two the guest
//! acknowledges and ends interrupts without an exit. The most urgent are listed,
//! whether they wait or are being served: the hardware counts the ends of those
//! that are not. A level-sensitive interrupt
//! asks for a maintenance interrupt at its end, so that a line which is still
//! high is noticed; one that is linked to the hardware does not need to.
//!
//! Spec: Arm GIC Architecture Specification, "Virtual interrupt handling and
//! prioritization", `ICH_LR<n>_EL2`.

use tock_registers::{LocalRegisterCopy, fields::FieldValue};

use super::{
    bank::mask,
    state::{Candidate, State},
};
use crate::regs::{LIST_REGISTERS_MAX, LR};

type ListRegister = LocalRegisterCopy<u64, LR::Register>;

/// Whether everything found a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Nothing waits outside.
    All,
    /// What is being served does, whose ends must be noticed.
    Served,
    /// Something waits that could be taken as soon as there is room.
    Waiting,
}

/// Gives interrupts to empty list registers.
pub(crate) fn fill(state: &mut State, cpu: usize, lists: &mut [u64]) -> Filled {
    state.settle();
    let mut chosen = Chosen::new(lists.len());
    // Only the guest can end what is linked to the hardware.
    let linked = |active: &Candidate| state.is_linked(cpu, active.intid);
    chosen.add_all(state.active(cpu).map(|active| Candidate {
        priority: if linked(&active) { 0 } else { active.priority },
        ..active
    }));
    chosen.add_all(state.candidates(cpu));
    if chosen.is_over
        && let Some(urgent) = state.candidates(cpu).min()
    {
        chosen.keep(urgent);
    }
    for (list, candidate) in lists.iter_mut().zip(chosen.iter()) {
        *list = give(state, cpu, candidate.intid);
        state.note_lpi(cpu, candidate.intid);
    }
    match chosen.is_over {
        false => Filled::All,
        true if state.candidates(cpu).next().is_none() => Filled::Served,
        true => Filled::Waiting,
    }
}

/// Returns the list register for one interrupt, if the vCPU can take it now.
pub(crate) fn fill_one(state: &mut State, cpu: usize, intid: u32) -> Option<u64> {
    let enables = state.enables;
    let (bank, bit) = state.bank_mut(cpu, intid)?;
    let is_deliverable = bank.deliverable(bank.groups(enables)) & mask(bit) != 0;
    is_deliverable.then(|| give(state, cpu, intid))
}

/// What comes of an interrupt that arises while it has a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It is pending there already.
    Pending,
    /// The list register becomes this.
    Write(u64),
    /// It cannot be said there.
    Elsewhere,
}

/// Makes an interrupt pending again in its list register, which was `given` and
/// is `now`.
pub(crate) fn again(given: u64, now: u64) -> Again {
    let list = ListRegister::new(now);
    match (list.is_set(LR::PENDING), list.is_set(LR::ACTIVE)) {
        (true, _) => Again::Pending,
        // The hardware ends what is linked once.
        (false, true) if list.is_set(LR::HW) => Again::Elsewhere,
        (false, true) => Again::Write(now | LR::PENDING::SET.value),
        (false, false) => {
            let mut fresh = ListRegister::new(given);
            fresh.modify(LR::PENDING::SET + LR::ACTIVE::CLEAR);
            Again::Write(fresh.get())
        }
    }
}

/// Tells whether a list register is of an interrupt and may take it again: not
/// that of a timer which was cut off the hardware, as the hardware's would never
/// be ended.
pub(crate) fn is_of(list: u64, intid: u32) -> bool {
    let list = ListRegister::new(list);
    let is_unlinked_level = !list.is_set(LR::HW) && list.is_set(LR::EOI);
    list.read(LR::VINTID) == u64::from(intid) && !is_unlinked_level
}

/// The most urgent candidates, sorted, in bounded room.
struct Chosen {
    best: [Candidate; LIST_REGISTERS_MAX],
    len: usize,
    room: usize,
    /// There are more than there is room for.
    is_over: bool,
}

impl Chosen {
    fn new(room: usize) -> Self {
        let none = Candidate {
            priority: u8::MAX,
            intid: u32::MAX,
        };
        Self {
            best: [none; LIST_REGISTERS_MAX],
            len: 0,
            room: room.min(LIST_REGISTERS_MAX),
            is_over: false,
        }
    }

    fn add_all(&mut self, candidates: impl Iterator<Item = Candidate>) {
        candidates.for_each(|candidate| self.add(candidate));
    }

    fn add(&mut self, candidate: Candidate) {
        let known = self.best.get(..self.len).unwrap_or_default();
        if known.iter().any(|other| other.intid == candidate.intid) {
            return;
        }
        let at = known.partition_point(|other| *other <= candidate);
        if self.len == self.room {
            self.is_over = true;
        } else {
            self.len = self.len.saturating_add(1);
        }
        if let Some(tail) = self.best.get_mut(at..self.len)
            && !tail.is_empty()
        {
            tail.rotate_right(1);
            if let Some(slot) = tail.first_mut() {
                *slot = candidate;
            }
        }
    }

    /// Makes room for one that is not among them, in place of the last.
    fn keep(&mut self, candidate: Candidate) {
        let chosen = self.best.get_mut(..self.len).unwrap_or_default();
        if chosen.iter().all(|other| other.intid != candidate.intid)
            && let Some(last) = chosen.last_mut()
        {
            *last = candidate;
        }
    }

    fn iter(&self) -> impl Iterator<Item = Candidate> + '_ {
        self.best.iter().take(self.len).copied()
    }
}

/// Hands one interrupt over and returns its list register.
fn give(state: &mut State, cpu: usize, intid: u32) -> u64 {
    let Some((bank, bit)) = state.bank_mut(cpu, intid) else {
        return 0;
    };
    let mask = mask(bit);
    let is_level = bank.edge & mask == 0;
    let is_active = bank.active & mask != 0;
    let is_linked = bank.linked & mask != 0;
    // A level that is high during the service is no second interrupt.
    let is_pending = bank.pending() & mask != 0 && !(is_active && is_level);
    if is_pending {
        bank.forced |= bank.latch & mask & !bank.edge;
        bank.latch &= !mask;
    }
    bank.listed |= mask;
    let mut list = ListRegister::new(0);
    list.modify(
        LR::VINTID.val(intid.into())
            + LR::PRIORITY.val(bank.priority_of(bit).into())
            + flag(LR::GROUP::SET, bank.group1 & mask != 0)
            + flag(LR::PENDING::SET, is_pending)
            + flag(LR::ACTIVE::SET, is_active),
    );
    if is_linked {
        list.modify(LR::HW::SET + LR::PINTID.val(intid.into()));
    } else if is_level {
        list.modify(LR::EOI::SET);
    }
    list.get()
}

fn flag(set: FieldValue<u64, LR::Register>, is_set: bool) -> FieldValue<u64, LR::Register> {
    match is_set {
        true => set,
        false => FieldValue::<u64, LR::Register>::new(0, 0, 0),
    }
}

/// Takes interrupts back from list registers and leaves these empty.
pub(crate) fn fold(state: &mut State, cpu: usize, lists: &mut [u64]) {
    for list in lists {
        take(state, cpu, ListRegister::new(core::mem::take(list)));
    }
}

fn take(state: &mut State, cpu: usize, list: ListRegister) {
    let intid = list.read(LR::VINTID) as u32;
    let Some((bank, bit)) = state.bank_mut(cpu, intid) else {
        return;
    };
    let mask = mask(bit);
    if list.get() == 0 || bank.listed & mask == 0 {
        return;
    }
    let is_pending = list.is_set(LR::PENDING);
    let is_active = list.is_set(LR::ACTIVE);
    bank.listed &= !mask;
    bank.active &= !mask;
    if is_active {
        bank.active |= mask;
    }
    if is_pending {
        // The level tells itself whether it is still high.
        bank.latch |= mask & (bank.edge | bank.forced);
    }
    bank.forced &= !mask;
    if !is_pending && !is_active {
        // The guest's end of it was the hardware's, too, which says when the
        // line is high again.
        state.end_linked(cpu, intid);
    }
    state.forget_senders(cpu, intid, is_pending);
    state.note_lpi(cpu, intid);
}

impl State {
    /// Forgets who sent an SGI that was taken.
    fn forget_senders(&mut self, cpu: usize, intid: u32, is_pending: bool) {
        let private = self.privates.get_mut(cpu);
        let senders = private.and_then(|private| private.senders.get_mut(intid as usize));
        if let Some(senders) = senders.filter(|_| !is_pending) {
            *senders = 0;
        }
    }

    /// Ends `count` active interrupts that were in no list register.
    pub(crate) fn end_unlisted(&mut self, cpu: usize, count: u64) {
        for _ in 0..count {
            let Some(urgent) = self.active(cpu).min() else {
                return;
            };
            if let Some((bank, bit)) = self.bank_mut(cpu, urgent.intid) {
                bank.active &= !mask(bit);
            }
            self.note_lpi(cpu, urgent.intid);
        }
    }
}
