// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers of the PL031.
//!
//! Spec: Arm PrimeCell Real Time Clock (PL031) Technical Reference Manual,
//! "Programmer's Model".

use tock_registers::register_bitfields;

/// Size of the device's region.
pub const REGION_BYTES: u64 = 0x1000;

/// RTCPeriphID0-3 and RTCPCellID0-3.
const IDS: [u8; 8] = [0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// RTCDR.
    Data,
    /// RTCMR.
    Match,
    /// RTCLR.
    Load,
    /// RTCCR.
    Control,
    /// RTCIMSC.
    InterruptMask,
    /// RTCRIS.
    RawInterrupt,
    /// RTCMIS.
    MaskedInterrupt,
    /// RTCICR.
    InterruptClear,
    /// One of the eight identification registers, and its value.
    Id(u8),
    /// Anything else: reads as zero, ignores writes.
    Reserved,
}

impl Register {
    /// Finds the register at byte `offset`.
    pub fn decode(offset: u64) -> Self {
        match offset {
            0x00 => Self::Data,
            0x04 => Self::Match,
            0x08 => Self::Load,
            0x0c => Self::Control,
            0x10 => Self::InterruptMask,
            0x14 => Self::RawInterrupt,
            0x18 => Self::MaskedInterrupt,
            0x1c => Self::InterruptClear,
            _ => id(offset),
        }
    }
}

fn id(offset: u64) -> Register {
    let index = offset.checked_sub(0xfe0).map(|bytes| (bytes >> 2) as usize);
    match index.and_then(|i| IDS.get(i)) {
        Some(&value) => Register::Id(value),
        None => Register::Reserved,
    }
}

register_bitfields![u32,
    /// RTCIMSC, RTCRIS, RTCMIS, RTCICR.
    pub INTERRUPT [
        ALARM OFFSET(0) NUMBITS(1) []
    ]
];
