// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Command words of the 8259A.
//!
//! Spec: Intel 8259A Programmable Interrupt Controller, "Programming the 8259A".

use tock_registers::{LocalRegisterCopy, register_bitfields};

register_bitfields![u8,
    /// The first initialization word, and what tells it from the others.
    pub(super) ICW1 [
        IC4 OFFSET(0) NUMBITS(1) [],
        SNGL OFFSET(1) NUMBITS(1) [],
        LTIM OFFSET(3) NUMBITS(1) [],
        IS_ICW1 OFFSET(4) NUMBITS(1) []
    ],

    /// The vector of input 0; the low bits are the input's number.
    pub(super) ICW2 [
        BASE OFFSET(3) NUMBITS(5) []
    ],

    /// The fourth initialization word.
    pub(super) ICW4 [
        AEOI OFFSET(1) NUMBITS(1) [],
        SFNM OFFSET(4) NUMBITS(1) []
    ],

    /// End of interrupt and rotation.
    pub(super) OCW2 [
        LEVEL OFFSET(0) NUMBITS(3) [],
        COMMAND OFFSET(5) NUMBITS(3) [
            RotateInAutoEoiClear = 0,
            Eoi = 1,
            Nothing = 2,
            SpecificEoi = 3,
            RotateInAutoEoiSet = 4,
            RotateOnEoi = 5,
            SetPriority = 6,
            RotateOnSpecificEoi = 7
        ]
    ],

    /// Special mask, poll and which register is read.
    pub(super) OCW3 [
        RIS OFFSET(0) NUMBITS(1) [ Irr = 0, Isr = 1 ],
        RR OFFSET(1) NUMBITS(1) [],
        POLL OFFSET(2) NUMBITS(1) [],
        IS_OCW3 OFFSET(3) NUMBITS(1) [],
        SMM OFFSET(5) NUMBITS(1) [],
        ESMM OFFSET(6) NUMBITS(1) []
    ],

    /// What a poll answers.
    pub(super) POLL [
        LEVEL OFFSET(0) NUMBITS(3) [],
        PENDING OFFSET(7) NUMBITS(1) []
    ]
];

/// A word that is written to the command port.
pub(super) enum Command {
    Icw1(LocalRegisterCopy<u8, ICW1::Register>),
    Ocw2(LocalRegisterCopy<u8, OCW2::Register>),
    Ocw3(LocalRegisterCopy<u8, OCW3::Register>),
}

impl Command {
    pub(super) fn decode(value: u8) -> Self {
        let icw1 = LocalRegisterCopy::<u8, ICW1::Register>::new(value);
        let ocw3 = LocalRegisterCopy::<u8, OCW3::Register>::new(value);
        match (icw1.is_set(ICW1::IS_ICW1), ocw3.is_set(OCW3::IS_OCW3)) {
            (true, _) => Self::Icw1(icw1),
            (false, true) => Self::Ocw3(ocw3),
            (false, false) => Self::Ocw2(LocalRegisterCopy::new(value)),
        }
    }
}

/// The bit of an input.
pub(super) fn bit(input: u8) -> u8 {
    1_u8.wrapping_shl(input.into())
}
