// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The local APIC, by MSRs where the CPU has x2APIC, else by memory.
//!
//! Called by `irq`, `timer` and `smp`. All CPUs use the mode that the boot CPU
//! chose in [`init_machine`].
//!
//! Spec: Intel SDM 3, "Advanced Programmable Interrupt Controller (APIC)".

use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{port, trap};
use crate::machine::{Failure, HardwareId};
use crate::wait;

/// Task priority.
pub const TASK_PRIORITY: usize = 0x080;
/// End of interrupt.
pub const END_OF_INTERRUPT: usize = 0x0b0;
/// The timer's entry of the local vector table.
pub const TIMER_ENTRY: usize = 0x320;
/// The timer's first count.
pub const TIMER_INITIAL: usize = 0x380;
/// The timer's count now.
pub const TIMER_CURRENT: usize = 0x390;
/// The timer's divider.
pub const TIMER_DIVIDE: usize = 0x3e0;
/// A masked entry of the local vector table.
pub const MASKED: u32 = 1 << 16;

const SPURIOUS_VECTOR: usize = 0x0f0;
/// The interrupt command's low half.
pub const COMMAND_LOW: usize = 0x300;
const COMMAND_HIGH: usize = 0x310;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const DELIVERY_PENDING: u32 = 1 << 12;

const BASE_MSR: u32 = 0x1b;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_ADDRESS: u64 = 0xf_ffff_f000;
const X2APIC_MSRS: u32 = 0x800;

/// What an interrupt command does.
#[derive(Clone, Copy)]
pub enum Command {
    /// Raises an interrupt with this vector.
    Fixed(u8),
    /// Raises a non-maskable interrupt.
    Nmi,
    /// Resets the CPU to wait for `Start`.
    Init,
    /// Starts the CPU at this page below 1 MiB.
    Start(u8),
}

static IS_X2APIC: AtomicBool = AtomicBool::new(false);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);

/// Chooses how the APICs of this machine are reached.
pub fn init_machine() -> Result<(), Failure> {
    let features = __cpuid(1);
    if features.edx & 1 << 9 == 0 {
        return Err(Failure("no local APIC"));
    }
    IS_X2APIC.store(features.ecx & 1 << 21 != 0, Ordering::Relaxed);
    Ok(())
}

/// Enables this CPU's APIC, its timer masked.
pub fn init_cpu() {
    // SAFETY: CPUs with an APIC have this register.
    let base = unsafe { port::read_msr(BASE_MSR) };
    let mode = if is_x2apic() { BASE_X2APIC } else { 0 };
    if base & BASE_ENABLE == 0 || base & BASE_X2APIC != mode {
        // SAFETY: a CPU that says it has x2APIC can be switched to it; nothing
        // else in this program depends on the mode.
        unsafe { port::write_msr(BASE_MSR, base | BASE_ENABLE | mode) };
    }
    ADDRESS.store((base & BASE_ADDRESS) as usize, Ordering::Relaxed);
    write(SPURIOUS_VECTOR, SOFTWARE_ENABLE | u32::from(trap::SPURIOUS));
    write(TASK_PRIORITY, 0);
    write(TIMER_ENTRY, MASKED);
}

/// Switches the only CPU in use from MSRs to memory, by way of no APIC at all.
pub fn use_memory() {
    // SAFETY: the CPU has the register, and nobody waits for an interrupt.
    let base = unsafe { port::read_msr(BASE_MSR) } & !(BASE_ENABLE | BASE_X2APIC);
    // SAFETY: as above; `init_cpu` enables it again.
    unsafe { port::write_msr(BASE_MSR, base) };
    IS_X2APIC.store(false, Ordering::Relaxed);
    init_cpu();
}

/// Tells whether the registers are MSRs.
pub fn is_x2apic() -> bool {
    IS_X2APIC.load(Ordering::Relaxed)
}

/// Returns where a register is in memory, for a CPU without x2APIC.
pub fn address_of(register: usize) -> usize {
    ADDRESS.load(Ordering::Relaxed) + register
}

/// Returns the MSR that a register is, for a CPU with x2APIC.
pub fn msr_of(register: usize) -> u32 {
    X2APIC_MSRS + (register >> 4) as u32
}

/// Reads a register.
pub fn read(register: usize) -> u32 {
    if is_x2apic() {
        // SAFETY: the CPU has x2APIC and it is enabled.
        return unsafe { port::read_msr(msr_of(register)) } as u32;
    }
    let address = address_of(register);
    // SAFETY: the APIC's registers are here, uncached.
    unsafe { (address as *const u32).read_volatile() }
}

/// Writes a register.
pub fn write(register: usize, value: u32) {
    if is_x2apic() {
        // SAFETY: as for `read`; the values used are valid and touch no memory.
        unsafe { port::write_msr(msr_of(register), u64::from(value)) };
        return;
    }
    let address = address_of(register);
    // SAFETY: as for `read`; an APIC does not touch memory.
    unsafe { (address as *mut u32).write_volatile(value) }
}

/// Sends a command to another CPU's APIC.
pub fn send(command: Command, target: HardwareId) -> Result<(), Failure> {
    const ASSERT: u32 = 1 << 14;
    let low = ASSERT
        | match command {
            Command::Fixed(vector) => u32::from(vector),
            Command::Nmi => 4 << 8,
            Command::Init => 5 << 8,
            Command::Start(page) => 6 << 8 | u32::from(page),
        };
    send_to(low, target.0 as u32)
}

/// Sends an interrupt command to whomever it and a destination name.
pub fn send_to(low: u32, destination: u32) -> Result<(), Failure> {
    if is_x2apic() {
        send_x2apic(u64::from(destination) << 32 | u64::from(low));
        return Ok(());
    }
    let is_idle = || read(COMMAND_LOW) & DELIVERY_PENDING == 0;
    wait::spin_until("the APIC does not send", is_idle)?;
    write(COMMAND_HIGH, destination << 24);
    write(COMMAND_LOW, low);
    Ok(())
}

fn send_x2apic(command: u64) {
    // The write of an x2APIC register does not wait for earlier stores.
    // SAFETY: a barrier changes nothing.
    unsafe { core::arch::asm!("mfence", "lfence", options(nostack)) };
    // SAFETY: the CPU has x2APIC; what the target does is the caller's business.
    unsafe { port::write_msr(msr_of(COMMAND_LOW), command) };
}
