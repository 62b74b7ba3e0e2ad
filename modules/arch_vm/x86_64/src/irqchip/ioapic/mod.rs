// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The I/O APIC: 24 pins, each with an entry that says what its wire means.
//!
//! Wires carry "asserted", whatever the polarity says, as QEMU's. What a pin
//! sends goes to the `send` that the caller hands in, which tells whether any
//! local APIC took it. A level-triggered pin waits for the end of its interrupt
//! and sends again while its wire is high; an edge on a masked pin is lost.
//!
//! Spec: Intel 82093AA I/O APIC.

mod registers;
#[cfg(test)]
mod tests;

use axdevice::AccessWidth;
use tock_registers::LocalRegisterCopy;

use super::message::{Delivery, Destination, Message, Trigger};
use registers::{ENTRY, Entry, Half, ID, Register, VERSION, WRITABLE, bit};

/// Where its page is.
pub(crate) const PAGE: u64 = 0xfec0_0000;
/// How large it is.
pub(crate) const PAGE_BYTES: u64 = 0x1000;
/// How many pins there are.
pub(crate) const PINS: usize = 24;

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const END: u64 = 0x40;
/// With an EOI register.
const WITH_END: u32 = 0x20;

/// Takes a message; tells whether it reached anybody.
pub(crate) trait Carrier: FnMut(Message) -> bool {}
impl<F: FnMut(Message) -> bool> Carrier for F {}

/// The I/O APIC.
#[derive(Clone, Debug)]
pub(crate) struct IoApic {
    id: u32,
    index: u8,
    entries: [Entry; PINS],
    /// The level of each wire.
    wires: u32,
}

impl IoApic {
    /// Makes one in which every pin is masked.
    pub(crate) fn new() -> Self {
        Self {
            id: 0,
            index: 0,
            entries: [Entry::new(ENTRY::MASK::SET.value); PINS],
            wires: 0,
        }
    }

    /// Drives the wire of a pin; those that do not exist have none.
    pub(crate) fn set_level(&mut self, pin: usize, is_high: bool, send: &mut impl Carrier) {
        if pin >= PINS {
            return;
        }
        let was_high = self.wires & bit(pin) != 0;
        match is_high {
            true => self.wires |= bit(pin),
            false => self.wires &= !bit(pin),
        }
        if !is_high || was_high {
            return;
        }
        match self.entry(pin).is_set(ENTRY::LEVEL) {
            true => self.serve_level(pin, send),
            false => self.serve_edge(pin, send),
        }
    }

    fn entry(&self, pin: usize) -> Entry {
        let masked = Entry::new(ENTRY::MASK::SET.value);
        self.entries.get(pin).copied().unwrap_or(masked)
    }

    fn serve_edge(&self, pin: usize, send: &mut impl Carrier) {
        let entry = self.entry(pin);
        if !entry.is_set(ENTRY::MASK) {
            forward(entry, send);
        }
    }

    /// Sends a level-triggered pin's interrupt, unless it is on its way already.
    fn serve_level(&mut self, pin: usize, send: &mut impl Carrier) {
        let entry = self.entry(pin);
        let is_held = entry.is_set(ENTRY::MASK) || entry.is_set(ENTRY::REMOTE_IRR);
        if is_held || self.wires & bit(pin) == 0 {
            return;
        }
        if forward(entry, send)
            && let Some(entry) = self.entries.get_mut(pin)
        {
            entry.modify(ENTRY::REMOTE_IRR::SET);
        }
    }

    /// Takes the end of a level-triggered interrupt.
    pub(crate) fn end(&mut self, vector: u8, send: &mut impl Carrier) {
        for pin in 0..PINS {
            let entry = self.entry(pin);
            let is_waiting = entry.is_set(ENTRY::REMOTE_IRR) && entry.is_set(ENTRY::LEVEL);
            if is_waiting && entry.read(ENTRY::VECTOR) == u64::from(vector) {
                self.clear_remote(pin);
                self.serve_level(pin, send);
            }
        }
    }

    fn clear_remote(&mut self, pin: usize) {
        if let Some(entry) = self.entries.get_mut(pin) {
            entry.modify(ENTRY::REMOTE_IRR::CLEAR);
        }
    }

    /// Reads its page: the index in any width, the window as a whole.
    pub(crate) fn read(&self, offset: u64, width: AccessWidth) -> u64 {
        match (offset, width) {
            (SELECT, _) => self.index.into(),
            (WINDOW, AccessWidth::Dword) => self.read_register().into(),
            _ => 0,
        }
    }

    fn read_register(&self) -> u32 {
        match Register::of(self.index) {
            Register::Id | Register::Arbitration => self.id,
            Register::Version => {
                let last = (PINS as u32).saturating_sub(1);
                (VERSION::VERSION.val(WITH_END) + VERSION::LAST.val(last)).value
            }
            Register::Entry(pin, half) => self
                .entries
                .get(pin)
                .map_or(0, |entry| half.of(entry.get())),
            Register::Nothing => 0,
        }
    }

    /// Writes its page.
    pub(crate) fn write(
        &mut self,
        offset: u64,
        width: AccessWidth,
        value: u64,
        send: &mut impl Carrier,
    ) {
        match (offset, width) {
            (SELECT, _) => self.index = value as u8,
            (WINDOW, AccessWidth::Dword) => self.write_register(value as u32, send),
            (END, AccessWidth::Dword) => self.end(value as u8, send),
            _ => {}
        }
    }

    fn write_register(&mut self, value: u32, send: &mut impl Carrier) {
        match Register::of(self.index) {
            Register::Id => {
                let id = LocalRegisterCopy::<u32, ID::Register>::new(value);
                self.id = ID::ID.val(id.read(ID::ID)).value;
            }
            Register::Entry(pin, half) => self.write_entry(pin, half, value, send),
            Register::Version | Register::Arbitration | Register::Nothing => {}
        }
    }

    fn write_entry(&mut self, pin: usize, half: Half, value: u32, send: &mut impl Carrier) {
        let Some(entry) = self.entries.get_mut(pin) else {
            return;
        };
        let remote = ENTRY::REMOTE_IRR.val(entry.read(ENTRY::REMOTE_IRR));
        let written = half.with(entry.get(), value) & WRITABLE;
        entry.set(written | remote.value);
        match entry.is_set(ENTRY::LEVEL) {
            true => self.serve_level(pin, send),
            // An edge has no end to wait for.
            false => entry.modify(ENTRY::REMOTE_IRR::CLEAR),
        }
    }
}

/// Sends what an entry says; tells whether it reached anybody.
fn forward(entry: Entry, send: &mut impl Carrier) -> bool {
    let Some(delivery) = Delivery::of(entry.read(ENTRY::DELIVERY) as u32) else {
        return false;
    };
    let is_level = delivery.has_vector() && entry.is_set(ENTRY::LEVEL);
    let trigger = match is_level {
        true => Trigger::Level,
        false => Trigger::Edge,
    };
    let id = entry.read(ENTRY::DESTINATION) as u32;
    send(Message {
        destination: Destination::of_byte(id, entry.is_set(ENTRY::LOGICAL)),
        delivery,
        vector: entry.read(ENTRY::VECTOR) as u8,
        trigger,
    })
}
