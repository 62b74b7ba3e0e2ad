// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Dates to seconds since 1970.
//!
//! Called by the reader of the CMOS clock, the only clock that counts in dates.

/// A date and time of day in UTC, proleptic Gregorian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// Full year, such as 2026.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
}

impl DateTime {
    /// Returns the seconds since 1970, or `None` for a date that cannot be.
    pub fn seconds_since_1970(&self) -> Option<u64> {
        if !(1..=12).contains(&self.month) || !(1..=31).contains(&self.day) {
            return None;
        }
        let days = u64::from(self.days_since_1970()?);
        let hours = days * 24 + u64::from(self.hour);
        Some((hours * 60 + u64::from(self.minute)) * 60 + u64::from(self.second))
    }

    // Years start in March here, so that the leap day is a year's last day.
    fn days_since_1970(&self) -> Option<u32> {
        let year = self.year.checked_sub(u32::from(self.month <= 2))?;
        let month_from_march = (self.month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + self.day - 1;
        let leap_days = year / 4 - year / 100 + year / 400;
        let days = year.checked_mul(365)? + leap_days + day_of_year;
        const DAYS_TO_1970: u32 = 719_468;
        days.checked_sub(DAYS_TO_1970)
    }
}

#[cfg(test)]
mod tests {
    use super::DateTime;

    fn date(year: u32, month: u32, day: u32) -> DateTime {
        DateTime {
            year,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
        }
    }

    #[test]
    fn known_dates_give_known_seconds() {
        assert_eq!(date(1970, 1, 1).seconds_since_1970(), Some(0));
        assert_eq!(date(2000, 2, 29).seconds_since_1970(), Some(951_782_400));
        assert_eq!(date(2000, 3, 1).seconds_since_1970(), Some(951_868_800));
        assert_eq!(date(2020, 1, 1).seconds_since_1970(), Some(1_577_836_800));
        assert_eq!(date(2100, 1, 1).seconds_since_1970(), Some(4_102_444_800));
    }

    #[test]
    fn each_day_is_one_later_than_the_day_before() {
        let lengths = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut expected = date(2024, 1, 1).seconds_since_1970().unwrap();
        for (month, length) in (1..).zip(lengths) {
            for day in 1..=length {
                assert_eq!(date(2024, month, day).seconds_since_1970(), Some(expected));
                expected += 86_400;
            }
        }
    }

    #[test]
    fn impossible_dates_give_nothing() {
        assert_eq!(date(2024, 0, 1).seconds_since_1970(), None);
        assert_eq!(date(2024, 13, 1).seconds_since_1970(), None);
        assert_eq!(date(2024, 1, 0).seconds_since_1970(), None);
        assert_eq!(date(0, 1, 1).seconds_since_1970(), None);
        assert_eq!(date(u32::MAX, 5, 1).seconds_since_1970(), None);
    }
}
