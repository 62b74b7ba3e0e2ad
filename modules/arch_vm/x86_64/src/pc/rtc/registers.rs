// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The registers of the MC146818.
//!
//! Spec: Motorola MC146818 data sheet, "Registers".

use bitflags::bitflags;
use tock_registers::register_bitfields;

/// A part of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// Seconds.
    Second,
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
    /// The day of the week, Sunday first.
    Weekday,
    /// The day of the month.
    Day,
    /// The month.
    Month,
    /// The year's last two digits.
    Year,
    /// Its first two, as ACPI places them.
    Century,
}

/// A register of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// A part of the time.
    Hand(Hand),
    /// A part of the alarm's time.
    Alarm(Hand),
    /// Divider and rate.
    A,
    /// Modes and enabled interrupts.
    B,
    /// Flags; reading takes them down.
    C,
    /// Whether time and memory are valid.
    D,
}

/// Where the century is, as the FADT says.
pub const CENTURY: u8 = 0x32;

impl Register {
    /// Finds the clock's register behind an index; the others are memory.
    pub fn decode(index: u8) -> Option<Self> {
        Some(match index {
            0x0 => Self::Hand(Hand::Second),
            0x1 => Self::Alarm(Hand::Second),
            0x2 => Self::Hand(Hand::Minute),
            0x3 => Self::Alarm(Hand::Minute),
            0x4 => Self::Hand(Hand::Hour),
            0x5 => Self::Alarm(Hand::Hour),
            0x6 => Self::Hand(Hand::Weekday),
            0x7 => Self::Hand(Hand::Day),
            0x8 => Self::Hand(Hand::Month),
            0x9 => Self::Hand(Hand::Year),
            0xa => Self::A,
            0xb => Self::B,
            0xc => Self::C,
            0xd => Self::D,
            CENTURY => Self::Hand(Hand::Century),
            _ => return None,
        })
    }
}

register_bitfields![u8,
    /// Register A.
    pub REGISTER_A [
        RATE OFFSET(0) NUMBITS(4) [],
        DIVIDER OFFSET(4) NUMBITS(3) [],
        UPDATING OFFSET(7) NUMBITS(1) []
    ],
    /// Register B; its interrupt enables are [`Flags`].
    pub REGISTER_B [
        DAYLIGHT_SAVING OFFSET(0) NUMBITS(1) [],
        HOURS_24 OFFSET(1) NUMBITS(1) [],
        BINARY OFFSET(2) NUMBITS(1) [],
        SQUARE_WAVE OFFSET(3) NUMBITS(1) [],
        SET OFFSET(7) NUMBITS(1) []
    ]
];

/// The divider's values from this one on hold it in reset.
pub const DIVIDER_RESET: u8 = 0b110;
/// An oscillator of 32.768 kHz, and 1024 interrupts in a second.
pub const A_AT_RESET: u8 = 0x26;
/// BCD and 24 hours, as a PC's firmware leaves it.
pub const B_AT_RESET: u8 = 0x02;

bitflags! {
    /// Register C, and the enables of the same bits in register B.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// An update of the time has ended.
        const UPDATE = 1 << 4;
        /// The time is the alarm's.
        const ALARM = 1 << 5;
        /// A period has ended.
        const PERIODIC = 1 << 6;
        /// The interrupt is requested; in register B the bit means something else.
        const REQUEST = 1 << 7;
    }
}

impl Flags {
    /// Adds `flag` if `condition` holds.
    pub fn set_if(&mut self, flag: Self, condition: bool) {
        if condition {
            self.insert(flag);
        }
    }
}
