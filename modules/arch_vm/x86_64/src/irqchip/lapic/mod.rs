// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The local APIC of one vCPU: xAPIC page and x2APIC MSRs.
//!
//! [`LocalApic`] belongs to the vCPU's thread and is touched by no other; what
//! others send waits in its [`Inbox`]. Whatever a register write does outside of
//! this APIC comes back as an [`Effect`]. After each call that may change what
//! can be taken, `is_stale` holds until `next` was asked.
//!
//! Spec: Intel SDM vol. 3, "Advanced Programmable Interrupt Controller (APIC)".

mod access;
mod inbox;
mod registers;
#[cfg(test)]
mod tests;
mod timer;

use alloc::sync::Arc;

use tock_registers::LocalRegisterCopy;

#[cfg(test)]
use access::GeneralProtection;
pub(crate) use access::{PAGE, PAGE_BYTES};
pub(crate) use inbox::{Inbox, Lint0, Signals};
pub(crate) use timer::{NEVER, TIMER_HZ, Time};

use super::{
    message::{Delivery, FIRST_VECTOR, Message, Trigger},
    vectors::VectorSet,
};
use registers::{ADDRESS, CLASS, ERRORS, FORMAT, LVT, Lvt, LvtEntry, SPURIOUS, logical_id};
use timer::Timer;

/// How registers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Not at all: the CPU has no local APIC.
    Disabled,
    /// In memory.
    XApic,
    /// As MSRs.
    X2Apic,
}

/// What a register write does outside of its local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Effect {
    /// Nothing.
    Nothing,
    /// Sends a message.
    Send(Message),
    /// Tells the I/O APIC that a level-triggered interrupt has ended.
    End(u8),
}

/// The local APIC of a vCPU.
pub(crate) struct LocalApic {
    inbox: Arc<Inbox>,
    is_boot_cpu: bool,
    mode: Mode,
    task_priority: u8,
    /// The class below or at which no interrupt is taken; its low bits, too.
    processor_priority: u8,
    in_service: VectorSet,
    spurious: LocalRegisterCopy<u32, SPURIOUS::Register>,
    /// What ESR shows, and what it shows after it is next written.
    error_status: u32,
    errors: u32,
    command: u64,
    logical: u32,
    format: LocalRegisterCopy<u32, FORMAT::Register>,
    table: [LvtEntry; Lvt::COUNT],
    timer: Timer,
    is_stale: bool,
}

impl LocalApic {
    /// Makes the local APIC of a vCPU at power-on; firmware has connected the
    /// boot CPU with the 8259.
    pub(crate) fn new(id: u32) -> Self {
        let mut apic = Self {
            inbox: Arc::new(Inbox::new(id)),
            is_boot_cpu: id == 0,
            mode: Mode::XApic,
            task_priority: 0,
            processor_priority: 0,
            in_service: VectorSet::default(),
            spurious: LocalRegisterCopy::new(0),
            error_status: 0,
            errors: 0,
            command: 0,
            logical: 0,
            format: LocalRegisterCopy::new(0),
            table: [LvtEntry::new(0); Lvt::COUNT],
            timer: Timer::new(),
            is_stale: true,
        };
        apic.reset();
        if apic.is_boot_cpu {
            apic.set_virtual_wire();
        }
        apic
    }

    /// Puts all registers but the base to their state at power-on, as INIT does.
    pub(crate) fn reset(&mut self) {
        self.inbox.requests.clear();
        self.in_service = VectorSet::default();
        self.spurious.set(SPURIOUS::VECTOR::SET.value);
        self.error_status = 0;
        self.errors = 0;
        self.command = 0;
        self.logical = 0;
        self.format
            .set(FORMAT::ONES::SET.value | FORMAT::MODEL::SET.value);
        self.table = [LvtEntry::new(LVT::MASK::SET.value); Lvt::COUNT];
        self.timer = Timer::new();
        self.set_task_priority(0);
        self.publish();
    }

    /// Does what firmware does before it boots a system: MP specification,
    /// "Virtual Wire Mode".
    fn set_virtual_wire(&mut self) {
        self.spurious.modify(SPURIOUS::ENABLE::SET);
        if let Some(lint0) = self.table.get_mut(Lvt::Lint0 as usize) {
            lint0.set(LVT::DELIVERY::ExtInt.value);
        }
        if let Some(lint1) = self.table.get_mut(Lvt::Lint1 as usize) {
            lint1.set(LVT::DELIVERY::Nmi.value);
        }
        self.publish();
    }

    /// Returns where others leave things for this APIC.
    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Returns how its registers are reached.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Tells others how this APIC is addressed and what its LINT0 means.
    fn publish(&mut self) {
        let (mode, logical) = match self.mode {
            Mode::Disabled => (ADDRESS::MODE::Disabled, 0),
            Mode::XApic => (ADDRESS::MODE::XApic, self.logical),
            Mode::X2Apic => (ADDRESS::MODE::X2Apic, logical_id(self.inbox.id())),
        };
        let is_flat = self.format.matches_all(FORMAT::MODEL::Flat);
        let address = mode
            + ADDRESS::LOGICAL.val(logical.into())
            + ADDRESS::ENABLED.val(self.spurious.read(SPURIOUS::ENABLE).into())
            + ADDRESS::FLAT.val(is_flat.into());
        self.inbox.publish_address(address.value);
        self.inbox.publish_lint0(self.entry(Lvt::Lint0));
        self.is_stale = true;
    }

    fn is_enabled(&self) -> bool {
        self.mode != Mode::Disabled && self.spurious.is_set(SPURIOUS::ENABLE)
    }

    fn entry(&self, lvt: Lvt) -> LvtEntry {
        let masked = LvtEntry::new(LVT::MASK::SET.value);
        self.table.get(lvt as usize).copied().unwrap_or(masked)
    }

    /// Tells whether `next` has to be asked, for what this vCPU did itself.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Returns the highest vector that can be taken now.
    ///
    /// The owner takes it at once, or asks again when its guest can take it.
    pub(crate) fn next(&mut self) -> Option<u8> {
        self.is_stale = false;
        if !self.is_enabled() {
            return None;
        }
        let vector = self.inbox.requests.highest()?;
        (vector & CLASS > self.processor_priority & CLASS).then_some(vector)
    }

    /// Returns the class of the highest vector if the task priority alone keeps it
    /// from being taken.
    pub(crate) fn masked_class(&self) -> Option<u8> {
        let class = self.inbox.requests.highest()? & CLASS;
        let serving = self.in_service.highest().unwrap_or(0) & CLASS;
        let is_masked = class > serving && class <= self.task_priority & CLASS;
        (is_masked && self.is_enabled()).then_some(class >> CLASS.trailing_zeros())
    }

    /// Takes a vector that `next` returned: from requested to in service.
    pub(crate) fn acknowledge(&mut self, vector: u8) {
        self.inbox.requests.remove(vector);
        self.in_service.insert(vector);
        self.update_priority();
    }

    /// Tells whether its registers are MSRs.
    #[inline]
    pub(crate) fn is_x2apic(&self) -> bool {
        self.mode == Mode::X2Apic
    }

    /// Takes an interrupt of this vCPU to itself at once; tells whether it may.
    ///
    /// It may if nothing else is requested, so that it is next, and no I/O APIC has
    /// to hear of the vector.
    #[inline]
    pub(crate) fn take_own(&mut self, vector: u8) -> bool {
        let may = vector & CLASS > self.processor_priority & CLASS
            && vector >= FIRST_VECTOR
            && self.spurious.is_set(SPURIOUS::ENABLE)
            && self.inbox.requests.is_empty()
            && !self.inbox.levels.contains(vector);
        if may {
            self.in_service.insert(vector);
            // Its class is above that of all others and of the task priority.
            self.processor_priority = vector & CLASS;
        }
        may
    }

    /// Ends the interrupt of the highest vector in service, if no I/O APIC has to
    /// hear of it; `is_stale` tells whether another may follow.
    #[inline]
    pub(crate) fn end_alone(&mut self) -> Option<()> {
        if !self.is_x2apic() {
            return None;
        }
        let vector = self.in_service.highest()?;
        if self.inbox.levels.contains(vector) {
            return None;
        }
        let was_stale = self.is_stale;
        self.in_service.remove(vector);
        self.update_priority();
        self.is_stale = was_stale || !self.inbox.requests.is_empty();
        Some(())
    }

    /// Ends the interrupt of the highest vector in service.
    fn end(&mut self) -> Effect {
        let Some(vector) = self.in_service.highest() else {
            return Effect::Nothing;
        };
        self.in_service.remove(vector);
        self.update_priority();
        match self.inbox.levels.contains(vector) {
            true => Effect::End(vector),
            false => Effect::Nothing,
        }
    }

    fn update_priority(&mut self) {
        let serving = self.in_service.highest().unwrap_or(0) & CLASS;
        self.processor_priority = match self.task_priority & CLASS >= serving {
            true => self.task_priority,
            false => serving,
        };
        self.is_stale = true;
    }

    /// Returns the task priority; CR8 is its high half.
    pub(crate) fn task_priority(&self) -> u8 {
        self.task_priority
    }

    /// Sets the task priority.
    pub(crate) fn set_task_priority(&mut self, priority: u8) {
        self.task_priority = priority;
        self.inbox.publish_task_priority(priority);
        self.update_priority();
    }

    /// Takes the signals that others sent, if there are any.
    pub(crate) fn take_signals(&mut self) -> Option<Signals> {
        let signals = self.inbox.take_signals()?;
        if signals.has_illegal {
            self.raise_error(ERRORS::RECEIVE_ILLEGAL::SET.value);
        }
        Some(signals)
    }

    /// Notes an error, and interrupts if the guest wants that.
    fn raise_error(&mut self, error: u32) {
        self.errors |= error;
        self.deliver(Lvt::Error);
    }

    /// Raises a local interrupt of a vector, unless its entry is masked.
    fn deliver(&mut self, lvt: Lvt) {
        let entry = self.entry(lvt);
        let vector = entry.read(LVT::VECTOR) as u8;
        if entry.is_set(LVT::MASK) || !self.is_enabled() {
            return;
        }
        if vector < FIRST_VECTOR {
            // The error's own entry raises nothing more.
            self.errors |= ERRORS::RECEIVE_ILLEGAL::SET.value;
            return;
        }
        self.inbox.post(vector, Trigger::Edge);
        self.is_stale = true;
    }

    /// Writes IA32_TSC_DEADLINE.
    #[inline]
    pub(crate) fn set_tsc_deadline(&mut self, tsc: u64, time: &impl Time) {
        self.timer.set_tsc_deadline(tsc, time);
    }

    /// Takes note that the time stamp counter was set.
    pub(crate) fn counter_was_set(&mut self, time: &impl Time) {
        self.timer.set_tsc_deadline(self.timer.tsc_deadline(), time);
    }

    /// Returns when the timer's interrupt comes on the host's clock, or [`NEVER`].
    pub(crate) fn timer_deadline_ns(&self) -> u64 {
        self.timer.deadline_ns()
    }

    /// Raises the timer's interrupt if it is due.
    pub(crate) fn poll_timer(&mut self, time: &impl Time) {
        if self.timer.expire(time) {
            self.deliver(Lvt::Timer);
        }
    }

    /// Sends the message of a command; what is for itself alone stays here.
    fn send(&mut self, message: Message) -> Effect {
        if message.delivery.has_vector() && message.vector < FIRST_VECTOR {
            self.raise_error(ERRORS::SEND_ILLEGAL::SET.value);
            return Effect::Nothing;
        }
        Effect::Send(message)
    }

    /// Interrupts itself.
    pub(crate) fn send_self(&mut self, vector: u8) {
        if vector < FIRST_VECTOR {
            let both = ERRORS::SEND_ILLEGAL::SET + ERRORS::RECEIVE_ILLEGAL::SET;
            return self.raise_error(both.value);
        }
        if self.is_enabled() {
            self.inbox.post(vector, Trigger::Edge);
            self.is_stale = true;
        }
    }
}

/// Tells whether a delivery reaches an APIC that its software has disabled.
pub(crate) fn reaches_disabled(delivery: Delivery) -> bool {
    !delivery.has_vector()
}
