// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Reads of I/O ports, and writes of the local APIC's timer.
//!
//! Spec: 16550 data sheet; Intel SDM 3, "TSC-Deadline Mode", "APIC Timer".

use core::arch::x86_64::__cpuid;

use crate::rounds::round_trip;
use rt::arch::{apic, timer};
use rt::machine::Failure;

const COM1_STATUS: u16 = 0x3fd;
// No PC has anything here.
const NOTHING: u16 = 0x2f0;
const TSC_DEADLINE: u32 = 0x6e0;
const TSC_DEADLINE_MODE: u32 = 2 << 17;
const HAS_TSC_DEADLINE: u32 = 1 << 24;
const FAR: u32 = u32::MAX;

/// Measures the accesses.
pub fn measure() -> Result<(), Failure> {
    round_trip("com1-status-read", || Ok(time_port_read(COM1_STATUS)))?;
    round_trip("pio-unassigned", || Ok(time_port_read(NOTHING)))?;
    if __cpuid(1).ecx & HAS_TSC_DEADLINE != 0 {
        tsc_deadline()?;
    }
    apic_timer()
}

fn time_port_read(port: u16) -> u64 {
    // SAFETY: reading these ports has no effect.
    unsafe { timed!("mov edx, {port:e}\n in al, dx", port = in(reg) u32::from(port),) }
}

fn tsc_deadline() -> Result<(), Failure> {
    let entry = apic::read(apic::TIMER_ENTRY);
    apic::write(apic::TIMER_ENTRY, entry | TSC_DEADLINE_MODE);
    round_trip("tsc-deadline-write", || Ok(time_deadline_write()))?;
    apic::write(apic::TIMER_ENTRY, entry);
    timer::init_cpu();
    Ok(())
}

// In the upper half of the counter, which takes centuries to come.
fn time_deadline_write() -> u64 {
    // SAFETY: the CPU has the register; the timer's interrupt is far away.
    unsafe { timed!("mov edx, {far:e}\n wrmsr", far = in(reg) FAR >> 1, in("ecx") TSC_DEADLINE,) }
}

fn apic_timer() -> Result<(), Failure> {
    if apic::is_x2apic() {
        round_trip("apic-timer-write", || Ok(time_x2apic_write()))?;
    } else {
        round_trip("apic-timer-write", || Ok(time_xapic_write()))?;
    }
    timer::disarm();
    Ok(())
}

fn time_x2apic_write() -> u64 {
    let register = apic::msr_of(apic::TIMER_INITIAL);
    // SAFETY: the CPU has x2APIC; the timer's interrupt is far away.
    unsafe {
        timed!("mov eax, {far:e}\n xor edx, edx\n wrmsr",
            far = in(reg) FAR, in("ecx") register,)
    }
}

fn time_xapic_write() -> u64 {
    let register = apic::address_of(apic::TIMER_INITIAL);
    // SAFETY: the APIC is here and does not touch memory.
    unsafe {
        timed!("mov dword ptr [{register}], {far:e}",
            register = in(reg) register, far = in(reg) FAR,)
    }
}
