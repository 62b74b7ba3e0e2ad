// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers of the Goldfish RTC.
//!
//! Spec: "Goldfish Virtual Hardware", real-time clock.

use tock_registers::register_bitfields;

use super::is_aligned;
use crate::{AccessFault, AccessWidth};

/// The registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// TIME_LOW: reading it latches TIME_HIGH.
    TimeLow,
    /// TIME_HIGH.
    TimeHigh,
    /// ALARM_LOW: writing it arms the alarm.
    AlarmLow,
    /// ALARM_HIGH.
    AlarmHigh,
    /// IRQ_ENABLED.
    IrqEnabled,
    /// CLEAR_ALARM.
    ClearAlarm,
    /// ALARM_STATUS.
    AlarmStatus,
    /// CLEAR_INTERRUPT.
    ClearInterrupt,
    /// The word behind the last register: reads as zero, ignores writes.
    Reserved,
}

impl Register {
    /// Finds the register of an access; only aligned 32-bit ones are decoded.
    pub fn decode(offset: u64, width: AccessWidth) -> Result<Self, AccessFault> {
        if width != AccessWidth::Dword || !is_aligned(offset, width) {
            return Err(AccessFault);
        }
        match offset {
            0x00 => Ok(Self::TimeLow),
            0x04 => Ok(Self::TimeHigh),
            0x08 => Ok(Self::AlarmLow),
            0x0c => Ok(Self::AlarmHigh),
            0x10 => Ok(Self::IrqEnabled),
            0x14 => Ok(Self::ClearAlarm),
            0x18 => Ok(Self::AlarmStatus),
            0x1c => Ok(Self::ClearInterrupt),
            0x20 => Ok(Self::Reserved),
            _ => Err(AccessFault),
        }
    }
}

register_bitfields![u32,
    /// IRQ_ENABLED.
    pub IRQ_ENABLED [
        ENABLE OFFSET(0) NUMBITS(1) []
    ]
];
