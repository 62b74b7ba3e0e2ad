// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The devices of a PC, by address and by port.
//!
//! Called by the tests that reach them in Rust; `execute` is for single
//! instructions.
//!
//! Spec: IA-PC HPET; Intel 82093AA; Motorola MC146818.

use rt::arch::port;

pub const IO_APIC: u64 = 0xfec0_0000;
pub const HPET: u64 = 0xfed0_0000;
const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;

/// Reads a device's register, or RAM that is the test's.
pub fn read(address: u64) -> u32 {
    // SAFETY: every PC has these registers, and the tests use no other RAM.
    unsafe { (address as *const u32).read_volatile() }
}

/// Writes it.
pub fn write(address: u64, value: u32) {
    // SAFETY: as for `read`; none makes a device write memory, and what it
    // interrupts for has a handler.
    unsafe { (address as *mut u32).write_volatile(value) };
}

/// Reads a register of the clock.
pub fn cmos(register: u8) -> u8 {
    port::write_u8(CMOS_INDEX, register);
    port::read_u8(CMOS_DATA)
}

/// Writes a register of the clock.
pub fn set_cmos(register: u8, value: u8) {
    port::write_u8(CMOS_INDEX, register);
    port::write_u8(CMOS_DATA, value);
}
