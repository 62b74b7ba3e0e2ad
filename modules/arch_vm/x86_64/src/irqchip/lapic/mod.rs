// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The local APIC of one vCPU: xAPIC page and x2APIC MSRs.
//!
//! [`LocalApic`] belongs to the vCPU's thread and is touched by no other; its
//! registers are in its [`Page`]. What others send waits in its [`Inbox`]. Whatever a register write does outside of
//! this APIC comes back as an [`Effect`]. After each call that may change what
//! can be taken, `is_stale` holds until `next` was asked.
//!
//! Spec: Intel SDM vol. 3, "Advanced Programmable Interrupt Controller (APIC)".

mod access;
mod given;
mod inbox;
mod page;
mod registers;
#[cfg(test)]
mod tests;
mod timer;

use alloc::sync::Arc;

use axvm::AxVCpuHal;
use tock_registers::LocalRegisterCopy;

#[cfg(test)]
use access::GeneralProtection;
pub(crate) use access::{PAGE, PAGE_BYTES};
pub(crate) use given::Given;
pub(crate) use inbox::{Inbox, Lint0, Signals};
pub(crate) use page::Page;
pub(crate) use timer::{NEVER, TIMER_HZ, Time};

use super::message::{Delivery, FIRST_VECTOR, Message, Trigger};
use page::Set;
use registers::{
    ADDRESS, CLASS, ERRORS, FORMAT, HIGH_BYTE, LVT, Lvt, LvtEntry, SPURIOUS, VERSION, logical_id,
    number,
};
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

/// The version of the integrated APICs.
const APIC_VERSION: u32 = 0x14;

/// The local APIC of a vCPU.
pub(crate) struct LocalApic<H: AxVCpuHal> {
    inbox: Arc<Inbox>,
    page: Page<H>,
    is_boot_cpu: bool,
    mode: Mode,
    /// What ESR shows after it is next written.
    errors: u32,
    timer: Timer,
    /// The highest vector in service, or 0; while it is given the page knows.
    highest: u8,
    is_stale: bool,
    /// The hardware delivers what is requested in the page.
    is_given: bool,
    /// It knows of all that is in service.
    is_known: bool,
}

impl<H: AxVCpuHal> LocalApic<H> {
    /// Makes the local APIC of a vCPU at power-on; firmware has connected the
    /// boot CPU with the 8259.
    pub(crate) fn new(hal: &H, id: u32) -> axvm::Result<Self> {
        let mut apic = Self {
            inbox: Arc::new(Inbox::new(id)),
            page: Page::new(hal)?,
            is_boot_cpu: id == 0,
            mode: Mode::XApic,
            errors: 0,
            timer: Timer::new(),
            highest: 0,
            is_stale: true,
            is_given: false,
            is_known: false,
        };
        apic.reset();
        if apic.is_boot_cpu {
            apic.set_virtual_wire();
        }
        Ok(apic)
    }

    /// Puts all registers but the base to their state at power-on, as INIT does.
    pub(crate) fn reset(&mut self) {
        self.inbox.requests.clear();
        self.errors = 0;
        self.highest = 0;
        self.is_known = false;
        self.timer = Timer::new();
        self.page.clear();
        let format = FORMAT::ONES::SET + FORMAT::MODEL::SET;
        self.page.write(number::DESTINATION_FORMAT, format.value);
        let spurious = SPURIOUS::VECTOR::SET.value;
        self.page.write(number::SPURIOUS, spurious);
        for entry in Lvt::ALL {
            self.page.write(entry.number(), LVT::MASK::SET.value);
        }
        self.show_identity();
        self.set_task_priority(0);
        self.publish();
    }

    /// Shows what cannot be written.
    fn show_identity(&self) {
        let id = self.inbox.id();
        let shown = match self.mode {
            Mode::X2Apic => id,
            Mode::XApic | Mode::Disabled => HIGH_BYTE::ID.val(id).value,
        };
        self.page.write(number::ID, shown);
        let last = (Lvt::COUNT as u32).saturating_sub(1);
        let version = VERSION::VERSION.val(APIC_VERSION) + VERSION::MAX_LVT.val(last);
        self.page.write(number::VERSION, version.value);
        if self.is_x2apic() {
            self.page.write(number::LOGICAL_DESTINATION, logical_id(id));
        }
    }

    /// Does what firmware does before it boots a system: MP specification,
    /// "Virtual Wire Mode".
    fn set_virtual_wire(&mut self) {
        let spurious = self.spurious().get() | SPURIOUS::ENABLE::SET.value;
        self.page.write(number::SPURIOUS, spurious);
        let (lint0, lint1) = (LVT::DELIVERY::ExtInt, LVT::DELIVERY::Nmi);
        self.page.write(Lvt::Lint0.number(), lint0.value);
        self.page.write(Lvt::Lint1.number(), lint1.value);
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

    /// Returns the registers.
    pub(crate) fn page(&self) -> &Page<H> {
        &self.page
    }

    /// Tells others how this APIC is addressed and what its LINT0 means.
    fn publish(&mut self) {
        let logical = self.page.read(number::LOGICAL_DESTINATION);
        let (mode, logical) = match self.mode {
            Mode::Disabled => (ADDRESS::MODE::Disabled, 0),
            Mode::XApic => (ADDRESS::MODE::XApic, high_byte(logical)),
            Mode::X2Apic => (ADDRESS::MODE::X2Apic, logical),
        };
        let format = self.page.read(number::DESTINATION_FORMAT);
        let format = LocalRegisterCopy::<u32, FORMAT::Register>::new(format);
        let is_flat = format.matches_all(FORMAT::MODEL::Flat);
        let address = mode
            + ADDRESS::LOGICAL.val(logical.into())
            + ADDRESS::ENABLED.val(self.spurious().read(SPURIOUS::ENABLE).into())
            + ADDRESS::FLAT.val(is_flat.into());
        self.inbox.publish_address(address.value);
        self.inbox.publish_lint0(self.entry(Lvt::Lint0));
        self.is_stale = true;
    }

    #[inline]
    fn spurious(&self) -> LocalRegisterCopy<u32, SPURIOUS::Register> {
        LocalRegisterCopy::new(self.page.read(number::SPURIOUS))
    }

    fn is_enabled(&self) -> bool {
        self.mode != Mode::Disabled && self.spurious().is_set(SPURIOUS::ENABLE)
    }

    fn entry(&self, lvt: Lvt) -> LvtEntry {
        LvtEntry::new(self.page.read(lvt.number()))
    }

    /// Returns the priority at or below whose class no interrupt is taken.
    #[inline]
    fn processor_priority(&self) -> u8 {
        self.page.read(number::PROCESSOR_PRIORITY) as u8
    }

    /// Tells whether `next` has to be asked, for what this vCPU did itself.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Returns the highest vector that can be taken now.
    ///
    /// The owner takes it at once, or asks again when its guest can take it. There
    /// is none while hardware takes them by itself.
    pub(crate) fn next(&mut self) -> Option<u8> {
        self.is_stale = false;
        if !self.is_enabled() || self.is_given {
            return None;
        }
        let vector = self.inbox.requests.highest()?;
        (vector & CLASS > self.processor_priority() & CLASS).then_some(vector)
    }

    /// Returns the class of the highest vector if the task priority alone keeps it
    /// from being taken.
    pub(crate) fn masked_class(&self) -> Option<u8> {
        let class = self.inbox.requests.highest()? & CLASS;
        let serving = self.serving() & CLASS;
        let is_masked = class > serving && class <= self.task_priority() & CLASS;
        (is_masked && self.is_enabled() && !self.is_given)
            .then_some(class >> CLASS.trailing_zeros())
    }

    /// Takes a vector that `next` returned: from requested to in service.
    pub(crate) fn acknowledge(&mut self, vector: u8) {
        self.inbox.requests.remove(vector);
        self.begin(vector);
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
        let may = vector & CLASS > self.processor_priority() & CLASS
            && vector >= FIRST_VECTOR
            && self.spurious().is_set(SPURIOUS::ENABLE)
            && self.inbox.requests.is_empty()
            && !self.inbox.levels.contains(vector);
        if may {
            self.begin(vector);
            // Its class is above that of all others and of the task priority.
            let priority = vector & CLASS;
            self.page.write(number::PROCESSOR_PRIORITY, priority.into());
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
        let vector = self.serving();
        if vector == 0 || self.inbox.levels.contains(vector) {
            return None;
        }
        let was_stale = self.is_stale;
        self.finish(vector);
        self.update_priority();
        self.is_stale = was_stale || !self.inbox.requests.is_empty();
        Some(())
    }

    /// Ends the interrupt of the highest vector in service.
    fn end(&mut self) -> Effect {
        let vector = self.serving();
        if vector == 0 {
            return Effect::Nothing;
        }
        self.finish(vector);
        self.update_priority();
        match self.inbox.levels.contains(vector) {
            true => Effect::End(vector),
            false => Effect::Nothing,
        }
    }

    /// Returns the highest vector in service, or 0: there is none below 16.
    #[inline]
    fn serving(&self) -> u8 {
        match self.is_given {
            true => self.page.highest(Set::InService).unwrap_or(0),
            false => self.highest,
        }
    }

    /// Puts a vector in service, which is above all that are.
    #[inline]
    fn begin(&mut self, vector: u8) {
        self.page.insert(Set::InService, vector);
        self.highest = vector;
        self.is_known = false;
    }

    /// Takes a vector out of service.
    #[inline]
    fn finish(&mut self, vector: u8) {
        self.page.remove(Set::InService, vector);
        self.highest = self.page.highest(Set::InService).unwrap_or(0);
        self.is_known = false;
    }

    fn update_priority(&mut self) {
        let serving = self.serving() & CLASS;
        let priority = match self.task_priority() {
            task if task & CLASS >= serving => task,
            _ => serving,
        };
        self.page.write(number::PROCESSOR_PRIORITY, priority.into());
        self.is_stale = true;
    }

    /// Returns the task priority; CR8 is its high half.
    #[inline]
    pub(crate) fn task_priority(&self) -> u8 {
        self.page.read(number::TASK_PRIORITY) as u8
    }

    /// Sets the task priority.
    pub(crate) fn set_task_priority(&mut self, priority: u8) {
        self.page.write(number::TASK_PRIORITY, priority.into());
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

/// Returns what xAPIC's registers for addressing hold.
fn high_byte(register: u32) -> u32 {
    LocalRegisterCopy::<u32, HIGH_BYTE::Register>::new(register).read(HIGH_BYTE::ID)
}

/// Tells whether a delivery reaches an APIC that its software has disabled.
pub(crate) fn reaches_disabled(delivery: Delivery) -> bool {
    !delivery.has_vector()
}
