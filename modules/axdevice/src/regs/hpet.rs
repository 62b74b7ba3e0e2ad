// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers of the HPET.
//!
//! Spec: Intel IA-PC HPET Specification 1.0a, "Register Model".

use tock_registers::register_bitfields;

use super::{high_half, is_aligned, join, low_half};
use crate::{AccessFault, AccessWidth};

/// Size of the device's region.
pub const REGION_BYTES: u64 = 0x400;
/// How many timers there are, as QEMU's.
pub const TIMERS: usize = 3;

register_bitfields![u64,
    /// General capabilities and identification.
    pub CAPABILITIES [
        REVISION OFFSET(0) NUMBITS(8) [],
        LAST_TIMER OFFSET(8) NUMBITS(5) [],
        WIDE OFFSET(13) NUMBITS(1) [],
        LEGACY OFFSET(15) NUMBITS(1) [],
        VENDOR OFFSET(16) NUMBITS(16) [],
        PERIOD_FS OFFSET(32) NUMBITS(32) []
    ],

    /// General configuration.
    pub CONFIGURATION [
        ENABLE OFFSET(0) NUMBITS(1) [],
        LEGACY OFFSET(1) NUMBITS(1) []
    ],

    /// A timer's configuration and capabilities.
    pub TIMER [
        LEVEL OFFSET(1) NUMBITS(1) [],
        ENABLE OFFSET(2) NUMBITS(1) [],
        PERIODIC OFFSET(3) NUMBITS(1) [],
        CAN_REPEAT OFFSET(4) NUMBITS(1) [],
        CAN_BE_WIDE OFFSET(5) NUMBITS(1) [],
        SET_VALUE OFFSET(6) NUMBITS(1) [],
        NARROW OFFSET(8) NUMBITS(1) [],
        ROUTE OFFSET(9) NUMBITS(5) [],
        ROUTES OFFSET(32) NUMBITS(32) []
    ]
];

/// What a guest can write of a timer's configuration.
pub const TIMER_WRITABLE: u64 = TIMER::LEVEL::SET.value
    | TIMER::ENABLE::SET.value
    | TIMER::PERIODIC::SET.value
    | TIMER::SET_VALUE::SET.value
    | TIMER::NARROW::SET.value
    | TIMER::ROUTE::SET.value;

/// A register of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// GCAP_ID.
    Capabilities,
    /// GEN_CONF.
    Configuration,
    /// GINTR_STA.
    Status,
    /// MAIN_CNT.
    Counter,
    /// TIMn_CONF.
    Timer(usize),
    /// TIMn_COMP.
    Comparator(usize),
    /// Anything else: reads as zero, ignores writes.
    Reserved,
}

/// The part of a register that an access is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its low half.
    Low,
    /// Its high half.
    High,
}

impl Part {
    /// Takes this part of a value.
    pub fn of(self, value: u64) -> u64 {
        match self {
            Self::Whole => value,
            Self::Low => low_half(value).into(),
            Self::High => high_half(value).into(),
        }
    }

    /// Puts a written value in place of this part of an old one.
    pub fn replace(self, old: u64, written: u64) -> u64 {
        match self {
            Self::Whole => written,
            Self::Low => join(low_half(written), high_half(old)),
            Self::High => join(low_half(old), low_half(written)),
        }
    }
}

/// Finds the register of an access, of 4 or 8 bytes.
pub fn decode(offset: u64, width: AccessWidth) -> Result<(Register, Part), AccessFault> {
    if !is_aligned(offset, width) || offset >= REGION_BYTES {
        return Err(AccessFault);
    }
    let part = match (width, offset & 4) {
        (AccessWidth::Qword, _) => Part::Whole,
        (AccessWidth::Dword, 0) => Part::Low,
        (AccessWidth::Dword, _) => Part::High,
        _ => return Err(AccessFault),
    };
    Ok((register(offset & !7), part))
}

fn register(offset: u64) -> Register {
    let timer = offset.checked_sub(0x100).map(|bytes| (bytes >> 5) as usize);
    match (offset, timer.filter(|timer| *timer < TIMERS), offset & 0x1f) {
        (0x000, ..) => Register::Capabilities,
        (0x010, ..) => Register::Configuration,
        (0x020, ..) => Register::Status,
        (0x0f0, ..) => Register::Counter,
        (_, Some(timer), 0x00) => Register::Timer(timer),
        (_, Some(timer), 0x08) => Register::Comparator(timer),
        _ => Register::Reserved,
    }
}

/// The bit of a timer in the status register.
pub fn status_bit(timer: usize) -> u64 {
    1_u64.wrapping_shl(timer as u32)
}
