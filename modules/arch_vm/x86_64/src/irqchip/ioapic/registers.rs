// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers of the I/O APIC.
//!
//! Spec: Intel 82093AA I/O APIC, "Register Description"; the EOI register is
//! that of Intel's later hubs.

use tock_registers::{LocalRegisterCopy, register_bitfields};

register_bitfields![u64,
    /// A redirection table entry.
    pub(super) ENTRY [
        VECTOR OFFSET(0) NUMBITS(8) [],
        DELIVERY OFFSET(8) NUMBITS(3) [],
        LOGICAL OFFSET(11) NUMBITS(1) [],
        POLARITY OFFSET(13) NUMBITS(1) [],
        REMOTE_IRR OFFSET(14) NUMBITS(1) [],
        LEVEL OFFSET(15) NUMBITS(1) [],
        MASK OFFSET(16) NUMBITS(1) [],
        DESTINATION OFFSET(56) NUMBITS(8) []
    ]
];

register_bitfields![u32,
    pub(super) ID [
        ID OFFSET(24) NUMBITS(4) []
    ],

    pub(super) VERSION [
        VERSION OFFSET(0) NUMBITS(8) [],
        LAST OFFSET(16) NUMBITS(8) []
    ]
];

/// A redirection table entry.
pub(super) type Entry = LocalRegisterCopy<u64, ENTRY::Register>;

/// What the guest can write of an entry.
pub(super) const WRITABLE: u64 = ENTRY::VECTOR::SET.value
    | ENTRY::DELIVERY::SET.value
    | ENTRY::LOGICAL::SET.value
    | ENTRY::POLARITY::SET.value
    | ENTRY::LEVEL::SET.value
    | ENTRY::MASK::SET.value
    | ENTRY::DESTINATION::SET.value;

/// Half of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Low,
    High,
}

impl Half {
    pub(super) fn of(self, entry: u64) -> u32 {
        match self {
            Self::Low => entry as u32,
            Self::High => (entry >> 32) as u32,
        }
    }

    pub(super) fn with(self, entry: u64, half: u32) -> u64 {
        let (low, high) = match self {
            Self::Low => (half, Self::High.of(entry)),
            Self::High => (Self::Low.of(entry), half),
        };
        u64::from(high) << 32 | u64::from(low)
    }
}

/// A register behind the window, as the index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Id,
    Version,
    Arbitration,
    Entry(usize, Half),
    Nothing,
}

impl Register {
    pub(super) fn of(index: u8) -> Self {
        match (index, index & 1) {
            (0, _) => Self::Id,
            (1, _) => Self::Version,
            (2, _) => Self::Arbitration,
            (3..0x10, _) => Self::Nothing,
            (_, 0) => Self::Entry(entry_of(index), Half::Low),
            (_, _) => Self::Entry(entry_of(index), Half::High),
        }
    }
}

fn entry_of(index: u8) -> usize {
    usize::from(index.saturating_sub(0x10) >> 1)
}

/// The bit of a pin.
pub(super) fn bit(pin: usize) -> u32 {
    1_u32.wrapping_shl(pin as u32)
}
