// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What harms a machine that has nobody but itself: deadlines at the ends of the
//! counter, all timers as fast as they go, exceptions without a stack.
//!
//! `deadlines` is a check like the others. The rest is asked for by a word on the
//! command line, as it is for a VM of its own: a hypervisor has to bear it.
//!
//! Spec: Intel SDM 3, "TSC-Deadline Mode", "I/O APIC"; IA-PC HPET; MC146818; ACPI.

use core::arch::asm;
use core::arch::x86_64::__cpuid;

use rt::arch::{apic, irq, port, timer, trap};
use rt::check::{Checked, hold, same};
use rt::machine::{Failure, Machine};
use rt::{cpu, say, wait};

use crate::{
    device::{HPET, IO_APIC, cmos, set_cmos, write},
    noise, starts,
};

const HAS_DEADLINE: u32 = 1 << 24;
const TSC: u32 = 0x10;
const TSC_DEADLINE: u32 = 0x6e0;
const DEADLINE_MODE: u32 = 2 << 17;
const PERIODIC_MODE: u32 = 1 << 17;
const DIVIDE_BY_1: u32 = 0xb;
/// Long enough for an interrupt to come.
const SPINS: u32 = 20_000;
/// How long a storm lasts.
const STORM_NS: u64 = 100_000_000;

/// Does what the command line asks for, and tells whether it was anything.
pub fn run(machine: &Machine) -> Result<bool, Failure> {
    if machine.command_line.has("lost-stack") {
        lose_stack();
    }
    if machine.command_line.has("storm") {
        storm()?;
        return Ok(true);
    }
    if machine.command_line.has("noise") {
        noise::run()?;
        return Ok(true);
    }
    if machine.command_line.has("starts") {
        starts::run(machine)?;
        return Ok(true);
    }
    Ok(false)
}

/// A deadline that the counter has passed is due at once, and one that it never
/// reaches does not come, whatever the counter was set to.
pub fn deadlines() -> Checked {
    if __cpuid(1).ecx & HAS_DEADLINE == 0 {
        say!("no deadlines");
        return Ok(());
    }
    irq::init_cpu()?;
    apic::write(apic::TIMER_ENTRY, DEADLINE_MODE | u32::from(trap::TIMER));
    let before = timer::ticks();
    for counter in [before, 1 << 40, 1 << 62, 1000] {
        set(TSC, counter);
        let never = interrupts_of(|| set(TSC_DEADLINE, u64::MAX));
        same("deadlines that never come", never, 0)?;
        let passed = interrupts_of(|| set(TSC_DEADLINE, 1));
        same("deadlines that have passed", passed, 1)?;
    }
    set(TSC_DEADLINE, 1 << 50);
    let jumped = interrupts_of(|| set(TSC, 1 << 51));
    same("deadlines that the counter jumped over", jumped, 1)?;
    set(TSC, before);
    irq::mask();
    timer::init_cpu();
    say!("deadlines passed");
    Ok(())
}

fn set(register: u32, value: u64) {
    // SAFETY: the counter and its deadline touch no memory, and all values are good.
    unsafe { port::write_msr(register, value) };
}

/// Returns how many timer interrupts come of something, and soon after it.
fn interrupts_of(act: impl Fn()) -> u32 {
    let before = cpu::current().timers();
    act();
    for _ in 0..SPINS {
        core::hint::spin_loop();
    }
    cpu::current().timers() - before
}

/// Has an exception whose frame goes where no RAM is, and whose code is nowhere.
fn lose_stack() -> ! {
    const NO_PAGE: u64 = 1 << 40;
    say!("losing the stack");
    // SAFETY: nothing is executed any more.
    unsafe {
        asm!("mov rsp, {stack}", "jmp {code}",
            stack = in(reg) trap::NOTHING_HERE + 0x1000, code = in(reg) NO_PAGE,
            options(noreturn));
    }
}

/// Has every timer interrupt as often as it can, and itself besides.
fn storm() -> Checked {
    irq::init_cpu()?;
    let before = cpu::current().timers();
    start_all();
    let end_ns = wait::now_ns() + STORM_NS;
    while wait::now_ns() < end_ns {
        // Flags that are up keep quiet.
        cmos(0x0c);
        port::write_u16(PM_STATUS, 1);
        irq::send_ipi(0)?;
    }
    irq::mask();
    let found = cpu::current().timers() - before;
    say!("storm passed: {found} interrupts of timers");
    hold("a storm", found != 0)
}

const PIN_PIT: u8 = 2;
const PIN_RTC: u8 = 8;
const PINS_HPET: [u8; 3] = [16, 17, 18];
const PM_STATUS: u16 = 0x600;
const PM_ENABLE: u16 = 0x602;

fn start_all() {
    for pin in [PIN_PIT, PIN_RTC].into_iter().chain(PINS_HPET) {
        let low = 0x10 + 2 * u32::from(pin);
        for (register, value) in [(low + 1, 0), (low, u32::from(trap::TIMER))] {
            write(IO_APIC, register);
            write(IO_APIC + 0x10, value);
        }
    }
    // Counter 0 in mode 2 with a count of 2.
    port::write_u8(0x43, 0x34);
    port::write_u8(0x40, 2);
    port::write_u8(0x40, 0);
    // 8192 Hz, all three interrupts, and an alarm at a second that never comes.
    for (hand, shown) in [(0x01, 0x75), (0x03, 0xff), (0x05, 0xff)] {
        set_cmos(hand, shown);
    }
    set_cmos(0x0a, 0x23);
    set_cmos(0x0b, 0x72);
    cmos(0x0c);
    port::write_u16(PM_ENABLE, 1);
    for (timer, pin) in PINS_HPET.into_iter().enumerate() {
        let registers = HPET + 0x100 + 0x20 * timer as u64;
        // Periodic, the comparator, then the period: one count each.
        write(registers, u32::from(pin) << 9 | 1 << 6 | 1 << 3 | 1 << 2);
        write(registers + 8, 1);
        write(registers + 8, 1);
    }
    write(HPET + 0x10, 1);
    apic::write(apic::TIMER_DIVIDE, DIVIDE_BY_1);
    apic::write(apic::TIMER_ENTRY, PERIODIC_MODE | u32::from(trap::TIMER));
    apic::write(apic::TIMER_INITIAL, 1);
}
