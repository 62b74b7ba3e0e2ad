// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupts of a PC's clocks, by the I/O APIC to this CPU in each way of naming it.
//!
//! All arrive with the vector of IPIs, whose handler counts and ends them.
//!
//! Spec: Intel 82093AA; Intel SDM 3, "Determining IPI Destination"; IA-PC HPET;
//! Intel 8254; MC146818A; Intel 82371, "ELCR".

use core::cell::Cell;

use rt::arch::{apic, irq, port, trap};
use rt::check::{Checked, hold, same};
use rt::{cpu, say, wait};

use crate::device::{HPET, IO_APIC, cmos, read, set_cmos, write};

const REDIRECTIONS: u32 = 0x10;
const LOGICAL: u32 = 1 << 11;
const LOWEST_PRIORITY: u32 = 1 << 8;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// This CPU: the first of the first cluster.
const LOGICAL_ID: u32 = 1;
const LOGICAL_DESTINATION: usize = 0x0d0;
const ALL_LEVELS: [u16; 2] = [0x4d0, 0x4d1];
const PIN_PIT: u32 = 2;
const PIN_RTC: u32 = 8;
const PIN_HPET: u32 = 20;

/// Runs all of them.
pub fn run() -> Checked {
    if !apic::is_x2apic() {
        apic::write(LOGICAL_DESTINATION, LOGICAL_ID << 24);
    }
    commands()?;
    for mode in [0, LOGICAL, LOGICAL | LOWEST_PRIORITY] {
        pit(mode)?;
    }
    say!("interrupts by logical destination passed");
    hpet()?;
    rtc()?;
    irq::mask();
    triggers()?;
    say!("clocks' interrupts passed");
    Ok(())
}

fn count() -> u64 {
    cpu::current().ipis().into()
}

/// Interrupts to itself by each kind of name.
fn commands() -> Checked {
    const SELF: u32 = 1 << 18;
    const ALL: u32 = 2 << 18;
    let vector = u32::from(trap::IPI) | 1 << 14;
    let physical = rt::cpu::hardware_id(0).0 as u32;
    for (command, target) in [
        (0, physical),
        (SELF, 0),
        (ALL, 0),
        (LOGICAL, LOGICAL_ID),
        (LOGICAL | LOWEST_PRIORITY, LOGICAL_ID),
    ] {
        let before = count();
        apic::send_to(command | vector, target)?;
        wait::halt_until("an IPI", || count() != before)?;
        same("IPIs", count(), before + 1)?;
    }
    Ok(())
}

fn set_pin(pin: u32, low: u32) {
    const HIGH: u32 = 1;
    let target = if low & LOGICAL != 0 {
        LOGICAL_ID
    } else {
        rt::cpu::hardware_id(0).0 as u32
    };
    let register = REDIRECTIONS + 2 * pin;
    for (register, value) in [
        (register, MASKED),
        (register + HIGH, target << 24),
        (register, low),
    ] {
        write(IO_APIC, register);
        write(IO_APIC + 0x10, value);
    }
}

/// One interrupt of the 8254's first channel.
fn pit(mode: u32) -> Checked {
    const ONE_SHOT: u8 = 0x30;
    let before = count();
    set_pin(PIN_PIT, u32::from(trap::IPI) | mode);
    port::write_u8(0x43, ONE_SHOT);
    port::write_u8(0x40, 0);
    port::write_u8(0x40, 4);
    wait::halt_until("no interrupt of the 8254", || count() != before)?;
    set_pin(PIN_PIT, MASKED);
    same("interrupts of the 8254", count(), before + 1)
}

/// A level is told once, and is told again only when it has been ended and is still
/// there: its status is cleared before it is taken.
fn hpet() -> Checked {
    const CONFIGURATION: u64 = HPET + 0x10;
    const STATUS: u64 = HPET + 0x20;
    const COUNTER: u64 = HPET + 0xf0;
    const TIMER: u64 = HPET + 0x100;
    const TIMER_LEVEL_ON: u32 = 0b110;
    const REMOTE_REQUEST: u32 = 1 << 14;
    /// The word of the requests that the vector is in, and its bit.
    const REQUESTS: usize = 0x200 + 0x10 * (trap::IPI as usize / 32);
    const REQUEST: u32 = 1 << (trap::IPI % 32);
    if read(TIMER + 4) >> PIN_HPET & 1 == 0 {
        return Ok(());
    }
    irq::mask();
    let before = count();
    set_pin(PIN_HPET, u32::from(trap::IPI) | LEVEL);
    write(CONFIGURATION, 0);
    write(COUNTER, 0);
    write(COUNTER + 4, 0);
    write(TIMER, PIN_HPET << 9 | TIMER_LEVEL_ON);
    write(TIMER + 8, 10_000);
    write(TIMER + 12, 0);
    write(CONFIGURATION, 1);
    let is_there = || apic::read(REQUESTS) & REQUEST != 0;
    wait::spin_until("no interrupt of the HPET", is_there)?;
    hold("the level is told", pin(PIN_HPET) & REMOTE_REQUEST != 0)?;
    write(STATUS, 1);
    write(TIMER, 0);
    write(CONFIGURATION, 0);
    wait::halt_until("no interrupt of the HPET", || count() != before)?;
    same("interrupts of the HPET", count(), before + 1)?;
    hold("its end", pin(PIN_HPET) & REMOTE_REQUEST == 0)?;
    set_pin(PIN_HPET, MASKED);
    Ok(())
}

fn pin(pin: u32) -> u32 {
    write(IO_APIC, REDIRECTIONS + 2 * pin);
    read(IO_APIC + 0x10)
}

/// The alarm, and the update that each second has, without being asked.
fn rtc() -> Checked {
    const SECONDS: u8 = 0;
    const ALARM: [u8; 3] = [1, 3, 5];
    const ANY: u8 = 0xc0;
    const STATUS_A: u8 = 10;
    const STATUS_B: u8 = 11;
    const STATUS_C: u8 = 12;
    const UPDATING: u8 = 1 << 7;
    const ALARM_AND_UPDATE: u8 = 0x30;
    const BINARY: u8 = 1 << 2;
    wait::spin_until("the clock stands", || cmos(STATUS_A) & UPDATING == 0)?;
    let (old, now) = (cmos(STATUS_B), cmos(SECONDS));
    let alarm = match old & BINARY {
        0 if now & 0xf == 9 => (now + 7) % 0x60,
        0 => now + 1,
        _ => (now + 1) % 60,
    };
    for (register, value) in ALARM.into_iter().zip([alarm, ANY, ANY]) {
        set_cmos(register, value);
    }
    set_pin(PIN_RTC, u32::from(trap::IPI) | LOGICAL);
    cmos(STATUS_C);
    set_cmos(STATUS_B, old | ALARM_AND_UPDATE);
    let (last, seen) = (Cell::new(count()), Cell::new(0));
    let has_all = || {
        // It is looked at only when it has interrupted.
        if count() != last.replace(count()) {
            seen.set(seen.get() | cmos(STATUS_C));
        }
        seen.get() & ALARM_AND_UPDATE == ALARM_AND_UPDATE
    };
    let came = wait::halt_until("no alarm", has_all);
    set_cmos(STATUS_B, old);
    cmos(STATUS_C);
    set_pin(PIN_RTC, MASKED);
    came
}

/// Which wires of the 8259s may be levels.
fn triggers() -> Checked {
    const CAN_BE: [u8; 2] = [0xf8, 0xde];
    for (register, can_be) in ALL_LEVELS.into_iter().zip(CAN_BE) {
        let old = port::read_u8(register);
        port::write_u8(register, 0xff);
        let all = port::read_u8(register);
        port::write_u8(register, old);
        same("levels", all, can_be)?;
        same("levels", port::read_u8(register), old)?;
    }
    Ok(())
}
