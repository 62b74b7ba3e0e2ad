// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers of the 8254, and of the PC's port 0x61 beside it.
//!
//! Spec: Intel 82C54 Programmable Interval Timer, "Programming the 82C54"; Intel
//! 82378IB (SIO), "NMI Status and Control Register".

use tock_registers::{LocalRegisterCopy, register_bitfields};

/// How many channels there are.
pub const CHANNELS: usize = 3;

register_bitfields![u8,
    /// The control word; also a channel's status in its low bits.
    pub CONTROL [
        BCD OFFSET(0) NUMBITS(1) [],
        MODE OFFSET(1) NUMBITS(3) [],
        ACCESS OFFSET(4) NUMBITS(2) [Latch = 0, Low = 1, High = 2, Both = 3],
        CHANNEL OFFSET(6) NUMBITS(2) [ReadBack = 3]
    ],

    /// The read-back command; its two latches are inverted.
    pub READ_BACK [
        CHANNELS OFFSET(1) NUMBITS(3) [],
        NO_STATUS OFFSET(4) NUMBITS(1) [],
        NO_COUNT OFFSET(5) NUMBITS(1) []
    ],

    /// What a channel's status has beside the control word.
    pub STATUS [
        NULL_COUNT OFFSET(6) NUMBITS(1) [],
        OUTPUT OFFSET(7) NUMBITS(1) []
    ],

    /// Port 0x61.
    pub PORT61 [
        GATE2 OFFSET(0) NUMBITS(1) [],
        SPEAKER OFFSET(1) NUMBITS(1) [],
        PARITY_OFF OFFSET(2) NUMBITS(1) [],
        CHECK_OFF OFFSET(3) NUMBITS(1) [],
        REFRESH OFFSET(4) NUMBITS(1) [],
        OUTPUT2 OFFSET(5) NUMBITS(1) []
    ]
];

/// A control word.
pub type ControlWord = LocalRegisterCopy<u8, CONTROL::Register>;

/// How a channel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Interrupt on terminal count.
    Terminal,
    /// Hardware-triggered one-shot.
    OneShot,
    /// Rate generator.
    Rate,
    /// Square wave.
    Square,
    /// Software-triggered strobe.
    Strobe,
    /// Hardware-triggered strobe.
    TriggeredStrobe,
}

impl Mode {
    /// Finds the mode that a control word names; two have two names.
    pub fn of(word: ControlWord) -> Self {
        match word.read(CONTROL::MODE) {
            0 => Self::Terminal,
            1 => Self::OneShot,
            2 | 6 => Self::Rate,
            3 | 7 => Self::Square,
            4 => Self::Strobe,
            _ => Self::TriggeredStrobe,
        }
    }

    /// Tells whether counting begins with a rising edge of the gate.
    pub fn is_triggered(self) -> bool {
        matches!(self, Self::OneShot | Self::TriggeredStrobe)
    }

    /// Tells whether counting begins again by itself.
    pub fn is_periodic(self) -> bool {
        matches!(self, Self::Rate | Self::Square)
    }
}

/// Tells whether a read-back command names a channel.
pub fn reads_back(command: u8, channel: usize) -> bool {
    let channels = LocalRegisterCopy::<u8, READ_BACK::Register>::new(command);
    channels.read(READ_BACK::CHANNELS) >> (channel & 3) & 1 != 0
}

/// Returns the low and the high byte of a count.
pub fn bytes(count: u16) -> [u8; 2] {
    count.to_le_bytes()
}

/// Reads a count of four decimal digits.
pub fn from_bcd(count: u16) -> u32 {
    let digits = [12, 8, 4, 0].map(|shift| u32::from(count >> shift & 0xf));
    digits.iter().fold(0, |sum: u32, digit| {
        sum.wrapping_mul(10).wrapping_add(*digit)
    })
}

/// Writes a count of at most four decimal digits.
pub fn to_bcd(count: u32) -> u16 {
    let heads = [count / 1000, count / 100, count / 10, count];
    let digits = heads.map(|head| (head % 10) as u16);
    digits.iter().fold(0, |word, digit| word << 4 | digit)
}
