// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Between seconds since 1970 and what the clock's registers show.
//!
//! Registers hold whatever a guest writes; what is no date is taken as the
//! nearest one.
//!
//! Spec: Motorola MC146818 data sheet, "Time, Calendar, and Alarm Locations".

use time::{Date, Month, OffsetDateTime, Time};

use super::registers::Hand;

const AFTERNOON: u8 = 0x80;
/// Alarm values from this one on match any time.
const ANY: u8 = 0xc0;
const DAY_S: u64 = 86_400;

/// How registers show numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Binary, or else decimal digits.
    pub is_binary: bool,
    /// Hours from 0 to 23, or else from 1 to 12 with the afternoon's bit.
    pub is_24_hours: bool,
}

impl Format {
    fn show(self, number: u8) -> u8 {
        let number = number.min(99);
        match self.is_binary {
            true => number,
            false => ((number / 10) << 4) | (number % 10),
        }
    }

    fn number(self, shown: u8) -> u8 {
        match self.is_binary {
            true => shown,
            false => (shown >> 4).saturating_mul(10).saturating_add(shown & 0xf),
        }
    }

    fn show_hour(self, hour: u8) -> u8 {
        if self.is_24_hours {
            return self.show(hour);
        }
        let afternoon = if hour >= 12 { AFTERNOON } else { 0 };
        let on_the_dial = match hour % 12 {
            0 => 12,
            hour => hour,
        };
        self.show(on_the_dial) | afternoon
    }

    fn hour(self, shown: u8) -> u8 {
        if self.is_24_hours {
            return self.number(shown);
        }
        let noon = if shown & AFTERNOON != 0 { 12 } else { 0 };
        let hour = self.number(shown & !AFTERNOON);
        (hour % 12).saturating_add(noon)
    }
}

/// The time as the registers show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hands {
    second: u8,
    minute: u8,
    hour: u8,
    weekday: u8,
    day: u8,
    month: u8,
    year: u8,
    century: u8,
}

impl Hands {
    /// Shows a time, given in seconds since 1970.
    pub fn at(seconds: u64, format: Format) -> Self {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let time = OffsetDateTime::from_unix_timestamp(seconds);
        let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let year = u16::try_from(time.year()).unwrap_or(0);
        Self {
            second: format.show(time.second()),
            minute: format.show(time.minute()),
            hour: format.show_hour(time.hour()),
            weekday: format.show(time.weekday().number_from_sunday()),
            day: format.show(time.day()),
            month: format.show(time.month().into()),
            year: format.show((year % 100) as u8),
            century: format.show((year / 100) as u8),
        }
    }

    /// Returns the nearest time in seconds since 1970.
    pub fn seconds(&self, format: Format) -> u64 {
        let number = |shown| format.number(shown);
        let century = i32::from(number(self.century)).saturating_mul(100);
        let year = century.saturating_add(number(self.year).min(99).into());
        let month = Month::try_from(number(self.month).clamp(1, 12)).unwrap_or(Month::January);
        let day = number(self.day).clamp(1, month.length(year));
        let date = Date::from_calendar_date(year, month, day);
        let time = Time::from_hms(
            format.hour(self.hour).min(23),
            number(self.minute).min(59),
            number(self.second).min(59),
        );
        let time = time.unwrap_or(Time::MIDNIGHT);
        let seconds = date.map(|date| date.with_time(time).assume_utc().unix_timestamp());
        seconds
            .ok()
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(0)
    }

    /// Returns what a register shows.
    pub fn get(&self, hand: Hand) -> u8 {
        match hand {
            Hand::Second => self.second,
            Hand::Minute => self.minute,
            Hand::Hour => self.hour,
            Hand::Weekday => self.weekday,
            Hand::Day => self.day,
            Hand::Month => self.month,
            Hand::Year => self.year,
            Hand::Century => self.century,
        }
    }

    /// Writes a register.
    pub fn set(&mut self, hand: Hand, value: u8) {
        *match hand {
            Hand::Second => &mut self.second,
            Hand::Minute => &mut self.minute,
            Hand::Hour => &mut self.hour,
            Hand::Weekday => &mut self.weekday,
            Hand::Day => &mut self.day,
            Hand::Month => &mut self.month,
            Hand::Year => &mut self.year,
            Hand::Century => &mut self.century,
        } = value;
    }
}

/// The time of day at which the alarm rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarm(Hands);

impl Alarm {
    /// Returns what a register shows.
    pub fn get(&self, hand: Hand) -> u8 {
        self.0.get(hand)
    }

    /// Writes a register.
    pub fn set(&mut self, hand: Hand, value: u8) {
        self.0.set(hand, value);
    }

    /// Returns in how many seconds after `now_s` it rings, if ever.
    pub fn wait_s(&self, now_s: u64, format: Format) -> Option<u64> {
        if !self.is_time(format) {
            return None;
        }
        self.looks(now_s, format).last()?.checked_sub(now_s)
    }

    /// Tells whether there is a time of day that it shows.
    fn is_time(&self, format: Format) -> bool {
        let hands = &self.0;
        let is_below = |shown: u8, number: u8, end: u8| shown >= ANY || number < end;
        is_below(hands.hour, format.hour(hands.hour), 24)
            && is_below(hands.minute, format.number(hands.minute), 60)
            && is_below(hands.second, format.number(hands.second), 60)
    }

    /// Returns the times behind `now_s` at which one that shows a time is looked at:
    /// one hour after the other, then minutes and seconds, up to when it rings.
    fn looks(&self, now_s: u64, format: Format) -> impl Iterator<Item = u64> {
        let hands = self.0;
        let matches = |shown: u8, number: u8, now: u64| shown >= ANY || u64::from(number) == now;
        let hour = move |now| matches(hands.hour, format.hour(hands.hour), now);
        let minute = move |now| matches(hands.minute, format.number(hands.minute), now);
        let second = move |now| matches(hands.second, format.number(hands.second), now);
        core::iter::successors(now_s.checked_add(1), move |at| {
            let unit: u64 = match at % DAY_S {
                of_day if !hour(of_day / 3600) => 3600,
                of_day if !minute(of_day / 60 % 60) => 60,
                of_day if !second(of_day % 60) => 1,
                _ => return None,
            };
            // Units divide a day, which divides the epoch.
            at.checked_div(unit)?.checked_add(1)?.checked_mul(unit)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BCD: Format = Format {
        is_binary: false,
        is_24_hours: true,
    };
    const TWELVE: Format = Format {
        is_binary: false,
        is_24_hours: false,
    };
    /// 2026-11-21 14:25:09, a Saturday.
    const NOW: u64 = 1_795_271_109;

    fn shown(hands: &Hands) -> [u8; 8] {
        [
            hands.century,
            hands.year,
            hands.month,
            hands.day,
            hands.weekday,
            hands.hour,
            hands.minute,
            hands.second,
        ]
    }

    #[test]
    fn a_date_is_shown_in_each_format() {
        let bcd = [0x20, 0x26, 0x11, 0x21, 7, 0x14, 0x25, 0x09];
        assert_eq!(shown(&Hands::at(NOW, BCD)), bcd);
        let binary = Format {
            is_binary: true,
            is_24_hours: true,
        };
        let expected = [20, 26, 11, 21, 7, 14, 25, 9];
        assert_eq!(shown(&Hands::at(NOW, binary)), expected);
        assert_eq!(Hands::at(NOW, TWELVE).hour, 0x82);
    }

    #[test]
    fn noon_and_midnight_are_twelve_on_the_dial() {
        let hour = |hour: u64| Hands::at(hour * 3600, TWELVE).hour;
        assert_eq!((hour(0), hour(12)), (0x12, 0x92));
    }

    #[test]
    fn what_is_no_date_is_the_nearest_one() {
        let mut hands = Hands::at(NOW, BCD);
        hands.set(Hand::Month, 0x02);
        hands.set(Hand::Day, 0x31);
        hands.set(Hand::Minute, 0x99);
        let expected = [0x20, 0x26, 0x02, 0x28, 7, 0x14, 0x59, 0x09];
        assert_eq!(shown(&Hands::at(hands.seconds(BCD), BCD)), expected);
    }

    fn any_format() -> impl Strategy<Value = Format> {
        (any::<bool>(), any::<bool>()).prop_map(|(is_binary, is_24_hours)| Format {
            is_binary,
            is_24_hours,
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_is_the_time(seconds in 0..250_000_000_000u64, format in any_format()) {
            prop_assert_eq!(Hands::at(seconds, format).seconds(format), seconds);
        }

        #[test]
        fn no_registers_panic(bytes: [u8; 8], format in any_format()) {
            let [second, minute, hour, weekday, day, month, year, century] = bytes;
            let hands = Hands { second, minute, hour, weekday, day, month, year, century };
            let _ = Hands::at(hands.seconds(format), format);
            let _ = Alarm(hands).wait_s(u64::MAX, format);
        }

        #[test]
        fn an_alarm_is_found_soon_whatever_it_shows(
            now in 0..4_000_000_000u64,
            hands: [u8; 3],
            is_any: [bool; 3],
            format in any_format(),
        ) {
            let mut alarm = Alarm::default();
            for ((hand, shown), is_any) in [Hand::Hour, Hand::Minute, Hand::Second]
                .into_iter()
                .zip(hands)
                .zip(is_any)
            {
                alarm.set(hand, if is_any { ANY } else { shown });
            }
            match alarm.wait_s(now, format) {
                None => prop_assert!(!alarm.is_time(format)),
                Some(wait) => prop_assert!((1..=DAY_S).contains(&wait)),
            }
            // Seconds and minutes to the next hour, hours, minutes and seconds.
            let looks = alarm.looks(now, format).take(1000).count();
            prop_assert!(!alarm.is_time(format) || looks <= 60 + 60 + 24 + 60 + 60);
        }

        #[test]
        fn an_alarm_rings_at_the_first_time_that_it_shows(
            now in 0..4_000_000_000u64,
            hand in 0..86_400u64,
            any: (bool, bool, bool),
            format in any_format(),
        ) {
            let mut alarm = Alarm(Hands::at(hand, format));
            for (is_any, hand) in [(any.0, Hand::Hour), (any.1, Hand::Minute), (any.2, Hand::Second)] {
                if is_any {
                    alarm.set(hand, 0xff);
                }
            }
            let parts = |s: u64| (s / 3600 % 24, s / 60 % 60, s % 60);
            let (hour, minute, second) = parts(hand);
            let rings = |s: &u64| {
                let now = parts(*s);
                (any.0 || now.0 == hour) && (any.1 || now.1 == minute) && (any.2 || now.2 == second)
            };
            let expected = (now + 1..now + 2 * 86_400).find(rings).map(|at| at - now);
            prop_assert_eq!(alarm.wait_s(now, format), expected);
        }
    }
}
