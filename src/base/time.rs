//! A moment, as file systems keep it.

/// Seconds since 1970-01-01 00:00 UTC, and nanoseconds 0..1_000_000_000 after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after the second.
    pub nanos: u32,
}

/// Names of the months, January first.
pub const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Timestamp {
    /// A moment without a fraction.
    pub const fn from_seconds(seconds: i64) -> Self {
        Timestamp { seconds, nanos: 0 }
    }

    /// Year, month 1..=12, day 1..=31, hour, minute, second in UTC (proleptic Gregorian calendar).
    pub fn to_civil(self) -> (i64, u32, u32, u32, u32, u32) {
        let (days, rest) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400) as u32);
        // Days since 0000-03-01, in 400-year eras (H. Hinnant, "chrono-compatible low-level date algorithms").
        let z = days + 719_468;
        let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        (year, month as u32, (doy - (153 * mp + 2) / 5 + 1) as u32, rest / 3_600, rest / 60 % 60, rest % 60)
    }

    /// In UTC as ctime(3) writes it, without a line end: `Tue Feb 29 12:34:56 2000`.
    pub fn ctime(self) -> String {
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        let (year, month, day, hour, minute, second) = self.to_civil();
        let name = DAYS[self.seconds.div_euclid(86_400).rem_euclid(7) as usize];
        let month = MONTHS[(month as usize - 1) % 12];
        format!("{name} {month} {day:2} {hour:02}:{minute:02}:{second:02} {year}")
    }

    /// The moment of a civil date in UTC; the inverse of [`Timestamp::to_civil`].
    pub fn from_civil(year: i64, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Self {
        let (month, day) = (i64::from(month), i64::from(day));
        let y = if month <= 2 { year - 1 } else { year };
        let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
        let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
        let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
        let days = era * 146_097 + doe - 719_468;
        Self::from_seconds(days * 86_400 + i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates() {
        assert_eq!(Timestamp::from_seconds(0).to_civil(), (1970, 1, 1, 0, 0, 0));
        assert_eq!(Timestamp::from_seconds(951_827_696).to_civil(), (2000, 2, 29, 12, 34, 56));
        assert_eq!(Timestamp::from_seconds(951_827_696).ctime(), "Tue Feb 29 12:34:56 2000");
        assert_eq!(Timestamp::from_seconds(-1).to_civil(), (1969, 12, 31, 23, 59, 59));
        for seconds in (-4_000_000_000..9_000_000_000).step_by(86_399 * 37) {
            let t = Timestamp::from_seconds(seconds);
            let (y, mo, d, h, mi, s) = t.to_civil();
            assert_eq!(Timestamp::from_civil(y, mo, d, h, mi, s), t);
        }
    }
}
