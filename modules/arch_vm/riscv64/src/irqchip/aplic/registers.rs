// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The control region of an APLIC's domain: where registers are, and their fields.
//!
//! Offsets that name nothing, or a source that does not exist, are
//! [`Register::Nothing`], so that the model indexes nothing that a guest gave.
//!
//! Spec: RISC-V Advanced Interrupt Architecture 1.0, "Memory-mapped control
//! region for an interrupt domain".

use tock_registers::register_bitfields;

use super::sources::{Source, WORDS};

register_bitfields![u32,
    pub(super) DOMAINCFG [
        /// Interrupts leave the domain.
        IE OFFSET(8) NUMBITS(1) [],
        /// How they do.
        DM OFFSET(2) NUMBITS(1) [ Direct = 0, Msi = 1 ],
        /// Always the same, so that software finds the byte order out.
        ORDER OFFSET(24) NUMBITS(8) [ Mark = 0x80 ]
    ],

    pub(super) SOURCECFG [
        /// What of the wire is an interrupt.
        SM OFFSET(0) NUMBITS(3) [
            Inactive = 0,
            Detached = 1,
            Edge1 = 4,
            Edge0 = 5,
            Level1 = 6,
            Level0 = 7
        ],
        /// Given to a child domain.
        D OFFSET(10) NUMBITS(1) []
    ],

    /// Of direct delivery; as many bits of priority as QEMU has.
    pub(super) TARGET [
        HART OFFSET(18) NUMBITS(14) [],
        IPRIO OFFSET(0) NUMBITS(3) []
    ],

    /// Of MSI delivery; of genmsi too, whose Busy never shows.
    pub(super) MSI_TARGET [
        HART OFFSET(18) NUMBITS(14) [],
        EIID OFFSET(0) NUMBITS(11) []
    ],

    pub(super) TOPI [
        IDENTITY OFFSET(16) NUMBITS(10) [],
        PRIORITY OFFSET(0) NUMBITS(8) []
    ],

    /// Registers of one bit: idelivery and iforce.
    pub(super) FLAG [
        VALUE OFFSET(0) NUMBITS(1) []
    ]
];

/// A register, as its offset says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Domain,
    Source(Source),
    SetPending { word: usize },
    SetPendingNumber,
    Input { word: usize },
    ClearPendingNumber,
    SetEnabled { word: usize },
    SetEnabledNumber,
    ClearEnabled { word: usize },
    ClearEnabledNumber,
    SetPendingNumberBig,
    GenerateMsi,
    Target(Source),
    Delivery { hart: usize },
    Force { hart: usize },
    Threshold { hart: usize },
    Top { hart: usize },
    Claim { hart: usize },
    Nothing,
}

const IDC_BASE: u64 = 0x4000;
const IDC_BYTES: u64 = 0x20;

impl Register {
    pub(super) fn at(offset: u64) -> Self {
        match offset {
            _ if !offset.is_multiple_of(4) => Self::Nothing,
            0 => Self::Domain,
            0x0004..0x1000 => of_source(offset, 0, Self::Source),
            0x1c00..0x1c80 => of_word(offset, 0x1c00, |word| Self::SetPending { word }),
            0x1cdc | 0x2000 => Self::SetPendingNumber,
            0x1d00..0x1d80 => of_word(offset, 0x1d00, |word| Self::Input { word }),
            0x1ddc => Self::ClearPendingNumber,
            0x1e00..0x1e80 => of_word(offset, 0x1e00, |word| Self::SetEnabled { word }),
            0x1edc => Self::SetEnabledNumber,
            0x1f00..0x1f80 => of_word(offset, 0x1f00, |word| Self::ClearEnabled { word }),
            0x1fdc => Self::ClearEnabledNumber,
            0x2004 => Self::SetPendingNumberBig,
            0x3000 => Self::GenerateMsi,
            0x3004..IDC_BASE => of_source(offset, 0x3000, Self::Target),
            IDC_BASE.. => of_hart(offset.wrapping_sub(IDC_BASE)),
            _ => Self::Nothing,
        }
    }
}

/// Returns the index of a register in the array that starts at `base`.
fn index(offset: u64, base: u64) -> usize {
    (offset.wrapping_sub(base) / 4) as usize
}

fn of_source(offset: u64, base: u64, register: fn(Source) -> Register) -> Register {
    Source::new(index(offset, base) as u32).map_or(Register::Nothing, register)
}

fn of_word(offset: u64, base: u64, register: fn(usize) -> Register) -> Register {
    match index(offset, base) {
        word @ ..WORDS => register(word),
        _ => Register::Nothing,
    }
}

/// Returns a register of the harts' delivery controls.
fn of_hart(offset: u64) -> Register {
    let hart = usize::try_from(offset / IDC_BYTES).unwrap_or(usize::MAX);
    match offset % IDC_BYTES {
        0x00 => Register::Delivery { hart },
        0x04 => Register::Force { hart },
        0x08 => Register::Threshold { hart },
        0x18 => Register::Top { hart },
        0x1c => Register::Claim { hart },
        _ => Register::Nothing,
    }
}
