// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers of the PL011.
//!
//! Spec: Arm PrimeCell UART (PL011) Technical Reference Manual, "Programmers Model".

use bitflags::bitflags;

/// How many characters the receive FIFO holds.
pub const FIFO_CHARACTERS: usize = 16;
/// Size of the device's region.
pub const REGION_BYTES: u64 = 0x1000;
/// UARTIFLS after reset: both FIFOs at half.
pub const FIFO_LEVELS_AT_RESET: u32 = 0x12;

/// UARTPeriphID0-3 and UARTPCellID0-3.
const IDS: [u8; 8] = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The registers, one per 32-bit word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// UARTDR.
    Data,
    /// UARTRSR when read, UARTECR when written.
    ReceiveStatus,
    /// UARTFR.
    Flags,
    /// UARTILPR.
    IrdaCounter,
    /// UARTIBRD.
    IntegerBaud,
    /// UARTFBRD.
    FractionalBaud,
    /// UARTLCR_H.
    LineControl,
    /// UARTCR.
    Control,
    /// UARTIFLS.
    FifoLevels,
    /// UARTIMSC.
    InterruptMask,
    /// UARTRIS.
    RawInterrupts,
    /// UARTMIS.
    MaskedInterrupts,
    /// UARTICR.
    InterruptClear,
    /// UARTDMACR.
    DmaControl,
    /// One of the eight identification registers, and its value.
    Id(u8),
    /// Anything else: reads as zero, ignores writes.
    Reserved,
}

impl Register {
    /// Finds the register that byte `offset` belongs to.
    pub fn decode(offset: u64) -> Self {
        match offset >> 2 {
            0x00 => Self::Data,
            0x01 => Self::ReceiveStatus,
            0x06 => Self::Flags,
            0x08 => Self::IrdaCounter,
            0x09 => Self::IntegerBaud,
            0x0a => Self::FractionalBaud,
            0x0b => Self::LineControl,
            0x0c => Self::Control,
            0x0d => Self::FifoLevels,
            0x0e => Self::InterruptMask,
            0x0f => Self::RawInterrupts,
            0x10 => Self::MaskedInterrupts,
            0x11 => Self::InterruptClear,
            0x12 => Self::DmaControl,
            word => id(word),
        }
    }
}

fn id(word: u64) -> Register {
    let index = word.checked_sub(0x3f8).map(|i| i as usize);
    match index.and_then(|i| IDS.get(i)) {
        Some(&value) => Register::Id(value),
        None => Register::Reserved,
    }
}

bitflags! {
    /// UARTDR when read: a character and what was wrong with it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Character: u16 {
        /// BE.
        const BREAK = 1 << 10;
        /// The character itself.
        const _ = 0xff;
    }

    /// UARTRSR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ReceiveStatus: u32 {
        /// BE.
        const BREAK = 1 << 2;
        /// OE.
        const OVERRUN = 1 << 3;
    }

    /// UARTFR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// CTS.
        const CTS = 1 << 0;
        /// DSR.
        const DSR = 1 << 1;
        /// DCD.
        const DCD = 1 << 2;
        /// RXFE.
        const RX_EMPTY = 1 << 4;
        /// RXFF.
        const RX_FULL = 1 << 6;
        /// TXFE.
        const TX_EMPTY = 1 << 7;
        /// RI.
        const RI = 1 << 8;
    }

    /// UARTLCR_H.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LineControl: u32 {
        /// BRK: send a break.
        const BREAK = 1 << 0;
        /// FEN: the FIFOs are on.
        const FIFOS = 1 << 4;
        const _ = !0;
    }

    /// UARTCR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Control: u32 {
        /// UARTEN.
        const ENABLE = 1 << 0;
        /// LBE: the output is connected to the input.
        const LOOPBACK = 1 << 7;
        /// TXE.
        const TX_ENABLE = 1 << 8;
        /// RXE.
        const RX_ENABLE = 1 << 9;
        /// DTR.
        const DTR = 1 << 10;
        /// RTS.
        const RTS = 1 << 11;
        /// Out1.
        const OUT1 = 1 << 12;
        /// Out2.
        const OUT2 = 1 << 13;
        const _ = !0;
    }

    /// UARTIMSC, UARTRIS, UARTMIS, UARTICR.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Interrupts: u32 {
        /// RIM.
        const RI = 1 << 0;
        /// CTSM.
        const CTS = 1 << 1;
        /// DCDM.
        const DCD = 1 << 2;
        /// DSRM.
        const DSR = 1 << 3;
        /// RX.
        const RX = 1 << 4;
        /// TX.
        const TX = 1 << 5;
        /// OE.
        const OVERRUN = 1 << 10;
        const _ = !0;
    }
}

impl Character {
    /// Returns what UARTRSR says of this character.
    pub fn status(self) -> ReceiveStatus {
        ReceiveStatus::from_bits_retain(u32::from(self.bits() >> 8))
    }
}

impl Control {
    /// UARTCR after reset: both directions enabled, the UART itself not.
    pub const AT_RESET: Self = Self::TX_ENABLE.union(Self::RX_ENABLE);

    /// Returns the modem inputs, which only loopback drives: from the outputs.
    #[inline]
    pub fn modem_inputs(self) -> Flags {
        match self.contains(Self::LOOPBACK) {
            true => self.looped_back(),
            false => Flags::empty(),
        }
    }

    #[cold]
    fn looped_back(self) -> Flags {
        let wires = [
            (Self::RTS, Flags::CTS),
            (Self::DTR, Flags::DSR),
            (Self::OUT1, Flags::DCD),
            (Self::OUT2, Flags::RI),
        ];
        let wired = wires
            .into_iter()
            .filter(|&(output, _)| self.contains(output));
        wired.map(|(_, input)| input).collect()
    }
}

impl Interrupts {
    /// The four of the modem lines.
    pub const MODEM: Self = Self::RI.union(Self::CTS).union(Self::DCD).union(Self::DSR);

    /// Returns the interrupts of the modem inputs that are active.
    pub fn of_modem(inputs: Flags) -> Self {
        let wires = [
            (Flags::CTS, Self::CTS),
            (Flags::DSR, Self::DSR),
            (Flags::DCD, Self::DCD),
            (Flags::RI, Self::RI),
        ];
        let active = wires
            .into_iter()
            .filter(|&(input, _)| inputs.contains(input));
        active.map(|(_, interrupt)| interrupt).collect()
    }
}

/// Keeps the implemented bits of UARTIBRD.
pub fn integer_baud(value: u32) -> u32 {
    value & 0xffff
}

/// Keeps the implemented bits of UARTFBRD.
pub fn fractional_baud(value: u32) -> u32 {
    value & 0x3f
}

/// Keeps the implemented bits of UARTILPR.
pub fn irda_counter(value: u32) -> u32 {
    value & 0xff
}
