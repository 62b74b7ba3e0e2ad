// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The CMOS clock of a PC.
//!
//! Called by the wall clock step. A reading counts when no update is under way
//! and two readings agree.
//!
//! Spec: Motorola MC146818 data sheet; ACPI, FADT "CENTURY" (register 0x32 on a PC).

use super::port;
use crate::calendar::DateTime;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const CENTURY: u8 = 0x32;
const UPDATING: u8 = 1 << 7;
const IS_BINARY: u8 = 1 << 2;
const IS_24_HOURS: u8 = 1 << 1;
const AFTERNOON: u8 = 1 << 7;
const TRIES: u32 = 1_000_000;

/// Reads the clock.
pub fn seconds_since_1970() -> Option<u64> {
    let date = (0..TRIES).find_map(|_| stable_reading())?;
    date.seconds_since_1970()
}

fn stable_reading() -> Option<DateTime> {
    if read(STATUS_A) & UPDATING != 0 {
        return None;
    }
    let (first, second) = (date(), date());
    (first == second).then_some(first)
}

fn date() -> DateTime {
    let status = read(STATUS_B);
    let number = |register| decode(read(register), status);
    let century = match number(CENTURY) {
        century @ 19..=21 => century,
        _ => 20,
    };
    DateTime {
        year: century * 100 + number(9),
        month: number(8),
        day: number(7),
        hour: hour(read(4), status),
        minute: number(2),
        second: number(0),
    }
}

fn hour(value: u8, status: u8) -> u32 {
    if status & IS_24_HOURS != 0 {
        return decode(value, status);
    }
    let noon = if value & AFTERNOON != 0 { 12 } else { 0 };
    decode(value & !AFTERNOON, status) % 12 + noon
}

fn decode(value: u8, status: u8) -> u32 {
    let value = u32::from(value);
    if status & IS_BINARY != 0 {
        return value;
    }
    (value >> 4) * 10 + (value & 0xf)
}

fn read(register: u8) -> u8 {
    port::write_u8(INDEX, register);
    port::read_u8(DATA)
}
