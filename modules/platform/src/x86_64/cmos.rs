// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Reads the time of day from the CMOS clock, once at boot.
//!
//! Spec: Motorola MC146818A datasheet.

use x86_64::instructions::port::Port;

const SECOND: u8 = 0;
const MINUTE: u8 = 2;
const HOUR: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const UPDATING: u8 = 1 << 7;
const BINARY: u8 = 1 << 2;
const PATIENCE: u32 = 1_000_000;

/// Returns the seconds since 1970, taking the clock as UTC in 24-hour mode.
pub(super) fn unix_time_s() -> u64 {
    let mut old = read_date();
    for _ in 0..PATIENCE {
        let new = read_date();
        if new == old && read(STATUS_A) & UPDATING == 0 {
            break;
        }
        old = new;
    }
    let [year, month, day, hour, minute, second] = old.map(u64::from);
    days_since_1970(2000 + year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
}

fn read_date() -> [u8; 6] {
    let is_binary = read(STATUS_B) & BINARY != 0;
    [YEAR, MONTH, DAY, HOUR, MINUTE, SECOND].map(|register| {
        let value = read(register);
        if is_binary {
            value
        } else {
            (value >> 4) * 10 + (value & 0xf)
        }
    })
}

/// Counts days in the proleptic Gregorian calendar, with years that begin in March.
const fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    (365 * year + leap_days + (153 * month + 2) / 5 + day).saturating_sub(719_469)
}

const _: () = assert!(days_since_1970(1970, 1, 1) == 0);
const _: () = assert!(days_since_1970(2000, 3, 1) == 11_017);

fn read(register: u8) -> u8 {
    // SAFETY: selecting a register of the clock changes no memory; only the first CPU does it.
    unsafe { Port::<u8>::new(0x70).write(register) };
    // SAFETY: reading it has no effect.
    unsafe { Port::<u8>::new(0x71).read() }
}
