// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The fixed registers of ACPI's power management.
//!
//! Spec: ACPI, "PM1 Event Grouping", "PM1 Control Registers".

use bitflags::bitflags;
use tock_registers::register_bitfields;

bitflags! {
    /// PM1 status and enable.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Events: u16 {
        /// The timer's highest bit has changed.
        const TIMER = 1 << 0;
        /// The firmware gave up the global lock.
        const GLOBAL = 1 << 5;
        /// The power button was pressed.
        const POWER_BUTTON = 1 << 8;
        /// The sleep button was pressed.
        const SLEEP_BUTTON = 1 << 9;
        /// The clock's alarm rang.
        const RTC = 1 << 10;
    }
}

register_bitfields![u16,
    /// PM1 control.
    pub PM1_CONTROL [
        SCI_ENABLE OFFSET(0) NUMBITS(1) [],
        SLEEP_TYPE OFFSET(10) NUMBITS(3) [],
        SLEEP_ENABLE OFFSET(13) NUMBITS(1) []
    ]
];

/// The sleep type of S5, as on q35; `_S5_` in the DSDT says so.
pub const SLEEP_TYPE_OFF: u8 = 0;
