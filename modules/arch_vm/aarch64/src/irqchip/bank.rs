// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Thirty-two interrupts, a bit for each in a word for each property.
//!
//! The distributor's registers are such words, and so is what decides which
//! interrupt comes next; nothing here knows a CPU. `listed` says that a list
//! register has taken the interrupt over: whatever is then pending here came
//! later.
//!
//! Spec: Arm GIC Architecture Specification, "Interrupt handling and
//! prioritization".

/// How many interrupts a bank has.
pub(crate) const BANK: usize = 32;

/// A bank of interrupts.
#[derive(Clone, Debug)]
pub(crate) struct Bank {
    pub(crate) enabled: u32,
    /// Pending by an edge or by software.
    pub(crate) latch: u32,
    /// The level of the input wires.
    pub(crate) line: u32,
    pub(crate) active: u32,
    /// Edge-triggered; the others are level-sensitive.
    pub(crate) edge: u32,
    /// In group 1, otherwise in group 0.
    pub(crate) group1: u32,
    /// Taken over by a list register.
    pub(crate) listed: u32,
    /// Pending by software in a list register, though level-sensitive.
    pub(crate) forced: u32,
    /// Active in the hardware until the guest ends it.
    pub(crate) linked: u32,
    pub(crate) priority: [u8; BANK],
}

impl Bank {
    /// Makes a bank after reset, of which `edge` are edge-triggered.
    pub(crate) const fn new(edge: u32) -> Self {
        Self {
            enabled: 0,
            latch: 0,
            line: 0,
            active: 0,
            edge,
            group1: 0,
            listed: 0,
            forced: 0,
            linked: 0,
            priority: [0; BANK],
        }
    }

    /// Returns what is pending.
    pub(crate) fn pending(&self) -> u32 {
        self.latch | (self.line & !self.edge)
    }

    /// Tells whether nothing is pending, nor active.
    pub(crate) fn is_idle(&self) -> bool {
        self.latch | self.line | self.active == 0
    }

    /// Returns what could be delivered; what is active waits for its end.
    pub(crate) fn deliverable(&self, groups: u32) -> u32 {
        self.pending() & self.enabled & !self.active & !self.listed & groups
    }

    /// Returns the bits of the groups that are enabled.
    pub(crate) fn groups(&self, enables: GroupEnables) -> u32 {
        let group0 = if enables.group0 { !self.group1 } else { 0 };
        let group1 = if enables.group1 { self.group1 } else { 0 };
        group0 | group1
    }

    /// Moves an input wire; a rising edge is remembered where edges count.
    pub(crate) fn set_line(&mut self, bit: u32, level: bool) {
        let mask = mask(bit);
        if level {
            self.latch |= mask & self.edge & !self.line;
            self.line |= mask;
        } else {
            self.line &= !mask;
        }
    }

    pub(crate) fn priority_of(&self, bit: u32) -> u8 {
        self.priority.get(bit as usize).copied().unwrap_or(u8::MAX)
    }
}

/// Which groups the distributor lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupEnables {
    pub(crate) group0: bool,
    pub(crate) group1: bool,
}

/// Returns the word with one bit.
pub(crate) fn mask(bit: u32) -> u32 {
    1_u32.wrapping_shl(bit)
}

/// Visits the bits of a word, the lowest first.
pub(crate) fn bits(word: u32) -> impl Iterator<Item = u32> {
    let mut left = word;
    core::iter::from_fn(move || {
        let bit = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (bit < u32::BITS).then_some(bit)
    })
}
