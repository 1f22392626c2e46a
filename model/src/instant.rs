//! A point in clock time, and how it is written.
//!
//! 1. What [`Display`](fmt::Display) writes, [`Instant::parse`] reads to the same instant, for
//!    every `i64`.
//! 2. Every date that has four digits of a year can be written: the last moment of
//!    9999 is what SQL users mean by "no end".
//!
//! Not here: clocks, time zones (an instant is UTC), and points in database time (`T`).

use jiff::{
    Span, Timestamp,
    civil::{Date, DateTime, Time},
    fmt::temporal::Pieces,
    tz::Offset,
};
use std::fmt;

/// A point in clock time: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub i64);

const EPOCH: Date = Date::constant(1970, 1, 1);
const DAY_US: i64 = 86_400_000_000;

impl Instant {
    /// From milliseconds since the epoch.
    pub const fn from_millis(ms: i64) -> Instant {
        Instant(ms * 1_000)
    }

    /// Reads RFC 3339 text, a civil date-time (taken as UTC), or a prefix of
    /// one as Clojure's `#inst` allows: `2026`, `2026-03`, `2026-03-01`. Digits
    /// beyond the microsecond are dropped. A zone by name without an offset is no
    /// instant to us, since that needs the zone's rules.
    ///
    /// Instants outside the years -9999 to 9999 are written and read as `253402300800000000us`.
    ///
    /// ```
    /// use annals_model::Instant;
    /// assert_eq!(Instant::parse("1970-01-02"), Some(Instant(86_400_000_000)));
    /// assert_eq!(Instant::parse("9999-12-31").unwrap().to_string(), "9999-12-31T00:00:00.000Z");
    /// assert_eq!(Instant::parse("2026-02-30"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Instant> {
        let full = match text.len() {
            4 => format!("{text}-01-01"),
            7 => format!("{text}-01"),
            _ => text.to_owned(),
        };
        let Ok(pieces) = Pieces::parse(&full) else {
            return text.strip_suffix("us").and_then(|n| n.parse().ok()).map(Instant);
        };
        let offset = match pieces.to_numeric_offset() {
            Some(offset) => offset,
            None if pieces.time_zone_annotation().is_none() => Offset::UTC,
            None => return None,
        };
        let local = DateTime::from_parts(pieces.date(), pieces.time().unwrap_or(Time::midnight()));
        // The timestamps of `jiff` keep a day away from the ends, so that any zone can show them.
        match offset.to_timestamp(local) {
            Ok(ts) => Some(Instant(ts.as_nanosecond().div_euclid(1_000) as i64)),
            Err(_) => {
                let days = i64::from(EPOCH.until(local.date()).ok()?.get_days());
                let of_day = local.time().duration_since(Time::midnight()).as_micros() as i64;
                Some(Instant(days * DAY_US + of_day - i64::from(offset.seconds()) * 1_000_000))
            }
        }
    }

    /// The date and the time of day in UTC, in the years that have dates.
    fn civil(self) -> Option<DateTime> {
        let days = Span::new().try_days(self.0.div_euclid(DAY_US)).ok()?;
        let of_day = Span::new().try_microseconds(self.0.rem_euclid(DAY_US)).ok()?;
        Some(DateTime::from_parts(EPOCH.checked_add(days).ok()?, Time::midnight().checked_add(of_day).ok()?))
    }
}

impl fmt::Display for Instant {
    /// RFC 3339 in UTC with as many fraction digits as needed, at least three.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.0 % 1_000 == 0 { 3 } else { 6 };
        if let Ok(ts) = Timestamp::from_microsecond(self.0) {
            return write!(f, "{ts:.digits$}");
        }
        match self.civil() {
            Some(at) => write!(f, "{at:.digits$}Z"),
            None => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_of_four_digits_are_instants_to_their_last_moment() {
        for (text, written) in [
            ("9999", "9999-01-01T00:00:00.000Z"),
            ("9999-12-31", "9999-12-31T00:00:00.000Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
            ("9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999Z"),
            ("9999-12-31T23:59:59+02:00", "9999-12-31T21:59:59.000Z"),
            ("9999-12-31T23:30:00-01:00", "253402302600000000us"),
            ("-009999-01-01", "-009999-01-01T00:00:00.000Z"),
            ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000Z"),
            ("1900-02-28T12:00:00+05:30", "1900-02-28T06:30:00.000Z"),
        ] {
            let read = Instant::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(read.to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "us",
            "20",
            "2026-02-30",
            "2026-13",
            "10000-01-01",
            "2026-03-01T10:00[Europe/Paris]",
            "T10:00",
        ] {
            assert_eq!(Instant::parse(text), None, "{text}");
        }
        assert!(
            Instant::parse("2026-03-01T10:00+01:00[Europe/Paris]").is_some(),
            "the offset says which moment"
        );
    }

    proptest! {
        #[test]
        fn every_instant_is_read_as_it_was_written(us in any::<i64>()) {
            prop_assert_eq!(Instant::parse(&Instant(us).to_string()), Some(Instant(us)));
        }

        #[test]
        fn every_instant_with_a_date_is_read_as_it_was_written(us in -380_000_000_000_000_000i64..254_000_000_000_000_000) {
            prop_assert_eq!(Instant::parse(&Instant(us).to_string()), Some(Instant(us)));
        }
    }
}
