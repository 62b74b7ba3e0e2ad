// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Where q35 has its ports, and which interrupts its devices have.
//!
//! What is not named here no device answers: reads are all ones.

/// COM1.
pub const COM1: u16 = 0x3f8;
/// How many ports it has.
pub const COM1_PORTS: u16 = 8;
/// CMOS memory and clock: index and data.
pub const CMOS: u16 = 0x70;
/// How many ports they have.
pub const CMOS_PORTS: u16 = 2;
/// The keyboard controller's data port.
pub const KEYBOARD_DATA: u16 = 0x60;
/// The keyboard controller's command port.
pub const KEYBOARD_COMMAND: u16 = 0x64;
/// Fast reset and A20.
pub const SYSTEM_CONTROL: u16 = 0x92;
/// QEMU's isa-debug-exit.
pub const DEBUG_EXIT: u16 = 0xf4;
/// How many ports it has.
pub const DEBUG_EXIT_PORTS: u16 = 4;
/// Power management: PM1 events, PM1 control, timer.
pub const POWER_MANAGEMENT: u16 = 0x600;
/// PCI configuration, and reset control among it.
pub const PCI: u16 = 0xcf8;
/// How many ports it has.
pub const PCI_PORTS: u16 = 8;
/// Reset control.
pub const RESET_CONTROL: u16 = 0xcf9;

/// Interrupts of ISA devices, as pins of the 8259 pair and of the I/O APIC.
pub mod irq {
    /// The 8254 at the 8259 pair.
    pub const TIMER: u8 = 0;
    /// The 8254 at the I/O APIC.
    pub const TIMER_AT_IO_APIC: u8 = 2;
    /// COM1.
    pub const COM1: u8 = 4;
    /// The clock.
    pub const RTC: u8 = 8;
    /// ACPI.
    pub const SCI: u8 = 9;
}
