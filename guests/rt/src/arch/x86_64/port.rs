// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! I/O ports and model-specific registers.
//!
//! The callers are the drivers of this folder. Ports here never make a device
//! touch memory, so reading and writing them is safe; an MSR may, so is not.

use core::arch::asm;

/// Reads a byte from an I/O port.
pub fn read_u8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: no device used here touches memory because of a read.
    unsafe { asm!("in al, dx", out("al") value, in("dx") port, options(nostack)) };
    value
}

/// Writes a byte to an I/O port.
pub fn write_u8(port: u16, value: u8) {
    // SAFETY: no device used here touches memory because of a write.
    unsafe { asm!("out dx, al", in("al") value, in("dx") port, options(nostack)) };
}

/// Writes two bytes to an I/O port.
pub fn write_u16(port: u16, value: u16) {
    // SAFETY: as for `write_u8`.
    unsafe { asm!("out dx, ax", in("ax") value, in("dx") port, options(nostack)) };
}

/// Writes four bytes to an I/O port.
pub fn write_u32(port: u16, value: u32) {
    // SAFETY: as for `write_u8`.
    unsafe { asm!("out dx, eax", in("eax") value, in("dx") port, options(nostack)) };
}

/// Reads a model-specific register.
///
/// # Safety
///
/// 1. The CPU has the register.
pub unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: by duty 1 this does not fault.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nostack));
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
///
/// 1. The CPU has the register and accepts the value.
/// 2. The value leaves the program's memory and control flow as they are.
pub unsafe fn write_msr(register: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: by duty 1 this does not fault, by duty 2 it does no harm.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") low, in("edx") high, options(nostack));
    };
}
