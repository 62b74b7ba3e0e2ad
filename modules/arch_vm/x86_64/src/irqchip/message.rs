// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! An interrupt on its way: what local APICs and the I/O APIC send each other.
//!
//! Spec: Intel SDM vol. 3, "Interrupt Command Register", "Determining IPI
//! Destination".

/// The identity of all local APICs, in the width of x2APIC.
pub(crate) const EVERYBODY: u32 = u32::MAX;
/// The same in eight bits.
const EVERYBODY_BYTE: u32 = 0xff;
/// The first vector that an interrupt may have.
pub(super) const FIRST_VECTOR: u8 = 16;

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The local APIC of this identity, or [`EVERYBODY`].
    Physical(u32),
    /// Those whose logical destination register says so.
    Logical(u32),
    /// All.
    All,
    /// All but the sender.
    Others,
}

impl Destination {
    /// Makes the destination that a field of eight bits names.
    pub(super) fn of_byte(id: u32, is_logical: bool) -> Self {
        let id = match id & EVERYBODY_BYTE {
            EVERYBODY_BYTE => EVERYBODY,
            id => id,
        };
        match is_logical {
            true => Self::Logical(id),
            false => Self::Physical(id),
        }
    }
}

/// What a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Makes the vector pending at each destination.
    Fixed,
    /// Makes it pending at one of them.
    LowestPriority,
    /// A non-maskable interrupt.
    Nmi,
    /// Resets, and lets wait for a startup.
    Init,
    /// Starts at the page of this number.
    Startup,
}

impl Delivery {
    /// Finds the delivery of a mode's field; SMI, ExtINT and reserved ones do nothing here.
    pub(super) fn of(mode: u32) -> Option<Self> {
        match mode {
            0 => Some(Self::Fixed),
            1 => Some(Self::LowestPriority),
            4 => Some(Self::Nmi),
            5 => Some(Self::Init),
            6 => Some(Self::Startup),
            _ => None,
        }
    }

    /// Tells whether the vector is one.
    pub(super) fn has_vector(self) -> bool {
        matches!(self, Self::Fixed | Self::LowestPriority)
    }
}

/// How an interrupt is triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    Edge,
    /// Its end is told to the I/O APIC.
    Level,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) destination: Destination,
    pub(crate) delivery: Delivery,
    pub(crate) vector: u8,
    pub(crate) trigger: Trigger,
}
