// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The part of a local APIC that other threads reach: no lock is involved.
//!
//! Anybody may make a vector pending or send a signal, and reads how the owner
//! can be addressed. The owner publishes that here, and takes what has come.
//! Whoever adds something asks the vCPU to look afterwards.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst};

use tock_registers::LocalRegisterCopy;

use super::registers::{ADDRESS, LOGICAL, LOGICAL_BYTE, LVT, LvtEntry, SIGNALS};
use crate::irqchip::{
    message::{Destination, EVERYBODY, FIRST_VECTOR, Trigger},
    vectors::SharedVectorSet,
};

/// Where others leave things for a local APIC.
#[derive(Debug)]
pub(crate) struct Inbox {
    id: u32,
    /// IRR.
    pub(super) requests: SharedVectorSet,
    /// TMR.
    pub(super) levels: SharedVectorSet,
    signals: AtomicU32,
    address: AtomicU64,
    task_priority: AtomicU8,
    lint0: AtomicU32,
}

/// What others asked of a CPU beside interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// An INIT, which comes before a startup that is here, too.
    pub(crate) init: bool,
    /// A startup, with the number of its page.
    pub(crate) startup: Option<u8>,
    /// A non-maskable interrupt.
    pub(crate) nmi: bool,
    /// An illegal vector was received.
    pub(super) has_illegal: bool,
}

/// What a wire to LINT0 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lint0 {
    /// Nothing.
    Masked,
    /// The 8259 has the vector.
    External,
    /// A vector of its own.
    Fixed(u8),
    /// A non-maskable interrupt.
    Nmi,
}

impl Inbox {
    pub(super) fn new(id: u32) -> Self {
        Self {
            id,
            requests: SharedVectorSet::default(),
            levels: SharedVectorSet::default(),
            signals: AtomicU32::new(0),
            address: AtomicU64::new(0),
            task_priority: AtomicU8::new(0),
            lint0: AtomicU32::new(LVT::MASK::SET.value),
        }
    }

    /// Returns the identity.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    fn address(&self) -> LocalRegisterCopy<u64, ADDRESS::Register> {
        LocalRegisterCopy::new(self.address.load(SeqCst))
    }

    pub(super) fn publish_address(&self, address: u64) {
        self.address.store(address, SeqCst);
    }

    pub(super) fn publish_task_priority(&self, priority: u8) {
        self.task_priority.store(priority, SeqCst);
    }

    pub(super) fn publish_lint0(&self, entry: LvtEntry) {
        self.lint0.store(entry.get(), SeqCst);
    }

    /// Returns the task priority.
    pub(crate) fn task_priority(&self) -> u8 {
        self.task_priority.load(SeqCst)
    }

    /// Tells whether fixed interrupts are taken.
    pub(crate) fn is_enabled(&self) -> bool {
        let address = self.address();
        !address.matches_all(ADDRESS::MODE::Disabled) && address.is_set(ADDRESS::ENABLED)
    }

    /// Returns what LINT0 means now; without a local APIC it is the CPU's INTR.
    pub(crate) fn lint0(&self) -> Lint0 {
        if self.address().matches_all(ADDRESS::MODE::Disabled) {
            return Lint0::External;
        }
        let entry = LvtEntry::new(self.lint0.load(SeqCst));
        if entry.is_set(LVT::MASK) {
            return Lint0::Masked;
        }
        match entry.read_as_enum(LVT::DELIVERY) {
            Some(LVT::DELIVERY::Value::ExtInt) => Lint0::External,
            Some(LVT::DELIVERY::Value::Fixed) => Lint0::Fixed(entry.read(LVT::VECTOR) as u8),
            Some(LVT::DELIVERY::Value::Nmi) => Lint0::Nmi,
            None => Lint0::Masked,
        }
    }

    /// Tells whether a message of `sender` is for this one.
    pub(crate) fn is_addressed(&self, destination: Destination, sender: Option<u32>) -> bool {
        let address = self.address();
        if address.matches_all(ADDRESS::MODE::Disabled) {
            return false;
        }
        match destination {
            Destination::All => true,
            Destination::Others => sender != Some(self.id),
            Destination::Physical(id) => id == EVERYBODY || id == self.id,
            Destination::Logical(EVERYBODY) => true,
            Destination::Logical(id) => is_member(address, id),
        }
    }

    /// Makes a vector pending; tells whether the vCPU must look.
    pub(crate) fn post(&self, vector: u8, trigger: Trigger) -> bool {
        if vector < FIRST_VECTOR {
            return self.raise(SIGNALS::RECEIVE_ILLEGAL::SET.value);
        }
        match trigger {
            Trigger::Edge => self.levels.remove(vector),
            Trigger::Level => {
                self.levels.insert(vector);
            }
        }
        self.requests.insert(vector)
    }

    fn raise(&self, bits: u32) -> bool {
        self.signals.fetch_or(bits, SeqCst) & bits != bits
    }

    /// Sends a non-maskable interrupt; tells whether the vCPU must look.
    pub(crate) fn send_nmi(&self) -> bool {
        self.raise(SIGNALS::NMI::SET.value)
    }

    /// Sends an INIT, which undoes a startup that was not taken yet.
    pub(crate) fn send_init(&self) -> bool {
        self.change_signals(|signals| {
            signals.modify(SIGNALS::INIT::SET + SIGNALS::STARTUP::CLEAR);
        });
        true
    }

    /// Sends a startup, unless one waits already.
    pub(crate) fn send_startup(&self, page: u8) -> bool {
        self.change_signals(|signals| {
            if !signals.is_set(SIGNALS::STARTUP) {
                signals.modify(SIGNALS::STARTUP::SET + SIGNALS::PAGE.val(page.into()));
            }
        });
        true
    }

    fn change_signals(&self, change: impl Fn(&mut LocalRegisterCopy<u32, SIGNALS::Register>)) {
        let changed = |bits| {
            let mut signals = LocalRegisterCopy::new(bits);
            change(&mut signals);
            Some(signals.get())
        };
        // The closure always changes, so that this cannot fail.
        let _ = self.signals.fetch_update(SeqCst, SeqCst, changed);
    }

    /// Takes the signals that have come.
    pub(super) fn take_signals(&self) -> Option<Signals> {
        if self.signals.load(SeqCst) == 0 {
            return None;
        }
        let bits = self.signals.swap(0, SeqCst);
        let signals = LocalRegisterCopy::<u32, SIGNALS::Register>::new(bits);
        let page = signals.read(SIGNALS::PAGE) as u8;
        Some(Signals {
            init: signals.is_set(SIGNALS::INIT),
            startup: signals.is_set(SIGNALS::STARTUP).then_some(page),
            nmi: signals.is_set(SIGNALS::NMI),
            has_illegal: signals.is_set(SIGNALS::RECEIVE_ILLEGAL),
        })
    }

    /// Tells whether signals wait.
    #[cfg(test)]
    pub(super) fn has_signals(&self) -> bool {
        self.signals.load(SeqCst) != 0
    }
}

/// Tells whether a logical destination names the owner of an address.
fn is_member(address: LocalRegisterCopy<u64, ADDRESS::Register>, id: u32) -> bool {
    let logical = address.read(ADDRESS::LOGICAL) as u32;
    if address.matches_all(ADDRESS::MODE::X2Apic) {
        let (own, named) = (x2apic_logical(logical), x2apic_logical(id));
        return same_cluster(
            (own.read(LOGICAL::CLUSTER), own.read(LOGICAL::MEMBERS)),
            (named.read(LOGICAL::CLUSTER), named.read(LOGICAL::MEMBERS)),
        );
    }
    if address.is_set(ADDRESS::FLAT) {
        return logical & id != 0;
    }
    let own = LocalRegisterCopy::<u32, LOGICAL_BYTE::Register>::new(logical);
    let named = LocalRegisterCopy::<u32, LOGICAL_BYTE::Register>::new(id);
    same_cluster(
        (
            own.read(LOGICAL_BYTE::CLUSTER),
            own.read(LOGICAL_BYTE::MEMBERS),
        ),
        (
            named.read(LOGICAL_BYTE::CLUSTER),
            named.read(LOGICAL_BYTE::MEMBERS),
        ),
    )
}

fn x2apic_logical(id: u32) -> LocalRegisterCopy<u32, LOGICAL::Register> {
    LocalRegisterCopy::new(id)
}

fn same_cluster(own: (u32, u32), named: (u32, u32)) -> bool {
    own.0 == named.0 && own.1 & named.1 != 0
}
