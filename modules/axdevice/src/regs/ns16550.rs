// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers of the 16550A.
//!
//! Spec: National Semiconductor PC16550D, "Registers".

use bitflags::bitflags;
use tock_registers::register_bitfields;

use super::is_aligned;
use crate::{AccessFault, AccessWidth};

/// How many bytes each FIFO holds.
pub const FIFO_BYTES: usize = 16;

/// The divisor after reset, which is 9600 baud at the PC's clock.
pub const DIVISOR_AT_RESET: u16 = 12;

/// The eight addresses; what the first two mean depends on `LINE_CONTROL::DLAB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// RBR when read, THR when written; DLL under DLAB.
    Data,
    /// IER; DLM under DLAB.
    InterruptEnable,
    /// IIR when read, FCR when written.
    InterruptId,
    /// LCR.
    LineControl,
    /// MCR.
    ModemControl,
    /// LSR.
    LineStatus,
    /// MSR.
    ModemStatus,
    /// SCR.
    Scratch,
}

impl Register {
    /// Finds the register of an access.
    pub fn decode(offset: u64, width: AccessWidth) -> Result<Self, AccessFault> {
        if !is_aligned(offset, width) {
            return Err(AccessFault);
        }
        match offset {
            0 => Ok(Self::Data),
            1 => Ok(Self::InterruptEnable),
            2 => Ok(Self::InterruptId),
            3 => Ok(Self::LineControl),
            4 => Ok(Self::ModemControl),
            5 => Ok(Self::LineStatus),
            6 => Ok(Self::ModemStatus),
            7 => Ok(Self::Scratch),
            _ => Err(AccessFault),
        }
    }
}

bitflags! {
    /// IER: which events raise the line.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InterruptEnable: u8 {
        /// ERBFI: received data, and the character timeout.
        const RX_DATA = 1 << 0;
        /// ETBEI: the transmitter holding register became empty.
        const TX_EMPTY = 1 << 1;
        /// ELSI: an error or a break was received.
        const LINE_STATUS = 1 << 2;
        /// EDSSI: a modem line changed.
        const MODEM_STATUS = 1 << 3;
    }

    /// LSR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LineStatus: u8 {
        /// DR.
        const DATA_READY = 1 << 0;
        /// OE.
        const OVERRUN = 1 << 1;
        /// PE.
        const PARITY = 1 << 2;
        /// FE.
        const FRAMING = 1 << 3;
        /// BI.
        const BREAK = 1 << 4;
        /// THRE.
        const TX_HOLDING_EMPTY = 1 << 5;
        /// TEMT.
        const TX_EMPTY = 1 << 6;

        /// What ELSI makes an interrupt of.
        const ERRORS = Self::OVERRUN.bits()
            | Self::PARITY.bits()
            | Self::FRAMING.bits()
            | Self::BREAK.bits();
        /// What reading LSR clears.
        const CLEARED_BY_READ = Self::OVERRUN.bits() | Self::BREAK.bits();
        /// The transmitter at rest.
        const IDLE = Self::TX_HOLDING_EMPTY.bits() | Self::TX_EMPTY.bits();
    }

    /// MCR; bits 5 to 7 read as zero.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ModemControl: u8 {
        /// DTR.
        const DTR = 1 << 0;
        /// RTS.
        const RTS = 1 << 1;
        /// OUT 1.
        const OUT1 = 1 << 2;
        /// OUT 2.
        const OUT2 = 1 << 3;
        /// LOOP: outputs are connected to inputs.
        const LOOPBACK = 1 << 4;
    }

    /// MSR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ModemStatus: u8 {
        /// CTS.
        const CTS = 1 << 4;
        /// DSR.
        const DSR = 1 << 5;
        /// RI.
        const RI = 1 << 6;
        /// DCD.
        const DCD = 1 << 7;

        /// The other end of the wire is there and listens.
        const CONNECTED = Self::CTS.bits() | Self::DSR.bits() | Self::DCD.bits();
    }
}

register_bitfields![u8,
    /// IIR.
    pub INTERRUPT_ID [
        ID OFFSET(0) NUMBITS(4) [
            ModemStatus = 0b0000,
            None = 0b0001,
            TxEmpty = 0b0010,
            RxData = 0b0100,
            LineStatus = 0b0110,
            RxTimeout = 0b1100
        ],
        FIFOS OFFSET(6) NUMBITS(2) [Disabled = 0, Enabled = 3]
    ],

    /// FCR.
    pub FIFO_CONTROL [
        ENABLE OFFSET(0) NUMBITS(1) [],
        CLEAR_RX OFFSET(1) NUMBITS(1) [],
        CLEAR_TX OFFSET(2) NUMBITS(1) [],
        TRIGGER OFFSET(6) NUMBITS(2) [One = 0, Four = 1, Eight = 2, Fourteen = 3]
    ],

    /// LCR.
    pub LINE_CONTROL [
        WORD_LENGTH OFFSET(0) NUMBITS(2) [],
        STOP_BITS OFFSET(2) NUMBITS(1) [],
        PARITY_ENABLE OFFSET(3) NUMBITS(1) [],
        EVEN_PARITY OFFSET(4) NUMBITS(1) [],
        STICK_PARITY OFFSET(5) NUMBITS(1) [],
        SET_BREAK OFFSET(6) NUMBITS(1) [],
        DLAB OFFSET(7) NUMBITS(1) []
    ]
];

register_bitfields![u16,
    /// DLL and DLM together.
    pub DIVISOR [
        LOW OFFSET(0) NUMBITS(8) [],
        HIGH OFFSET(8) NUMBITS(8) []
    ]
];

impl ModemControl {
    /// Returns MSR in loopback, where each output drives an input.
    pub fn looped_back(self) -> ModemStatus {
        let wires = [
            (Self::RTS, ModemStatus::CTS),
            (Self::DTR, ModemStatus::DSR),
            (Self::OUT1, ModemStatus::RI),
            (Self::OUT2, ModemStatus::DCD),
        ];
        let driven = wires
            .into_iter()
            .filter(|&(output, _)| self.contains(output));
        driven.map(|(_, input)| input).collect()
    }
}
