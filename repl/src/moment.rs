//! Points in time as people write them, and how far away they are.
//!
//! `42` is a transaction, `2026-03-01` or `#inst "…"` an instant, `-2h` that long
//! before now, `now` the newest transaction.

use crate::fail::{Failure, Outcome};
use annals::{Instant, T, TimePoint};
use jiff::{Span as Stretch, Timestamp, tz::TimeZone};

/// A point in time as written.
pub fn parse(text: &str) -> Outcome<TimePoint> {
    let text = text.trim();
    if text == "now" {
        return Ok(TimePoint::T(T::MAX));
    }
    if let Some(back) = text.strip_prefix('-') {
        return ago(back).map(TimePoint::Instant).ok_or_else(|| {
            bad(text).help("a number and a unit: s, m, h, d, w, mo or y, as in -90m or -8mo")
        });
    }
    let number = text.strip_prefix('t').filter(|n| n.bytes().all(|b| b.is_ascii_digit())).unwrap_or(text);
    TimePoint::parse(number).ok_or_else(|| {
        bad(text).help("write a t (42), a date-time (2026-03-01T10:00:00Z), or time back from now (-2h)")
    })
}

fn bad(text: &str) -> Failure {
    let mut f = Failure::usage(format!("not a point in time: {text}"));
    f.diagnostics[0].code = "shell/time";
    f
}

fn ago(text: &str) -> Option<Instant> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let n: i64 = text[..split].parse().ok()?;
    let span = match text[split..].trim() {
        "s" => Stretch::new().try_seconds(n),
        "m" | "min" => Stretch::new().try_minutes(n),
        "h" => Stretch::new().try_hours(n),
        "d" => Stretch::new().try_days(n),
        "w" => Stretch::new().try_weeks(n),
        "mo" => Stretch::new().try_months(n),
        "y" => Stretch::new().try_years(n),
        _ => return None,
    }
    .ok()?;
    let then = Timestamp::now().to_zoned(TimeZone::UTC).checked_sub(span).ok()?;
    Some(Instant(then.timestamp().as_microsecond()))
}

/// How long before now: `-8mo`, `-3d`, `-5m`, `now`.
pub fn distance(from: Instant, now: Instant) -> String {
    let seconds = (now.0 - from.0) / 1_000_000;
    let (sign, s) = if seconds < 0 { ("+", -seconds) } else { ("-", seconds) };
    let (n, unit) = match s {
        0..60 => return "now".into(),
        60..3_600 => (s / 60, "m"),
        3_600..86_400 => (s / 3_600, "h"),
        86_400..1_209_600 => (s / 86_400, "d"),
        1_209_600..5_184_000 => (s / 604_800, "w"),
        5_184_000..63_072_000 => (s / 2_629_800, "mo"),
        _ => (s / 31_557_600, "y"),
    };
    format!("{sign}{n}{unit}")
}

/// The present.
pub fn now() -> Instant {
    Instant(Timestamp::now().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(parse("42").unwrap(), TimePoint::T(T(42)));
        assert_eq!(parse("t42").unwrap(), TimePoint::T(T(42)));
        assert_eq!(parse("now").unwrap(), TimePoint::T(T::MAX));
        assert!(matches!(parse("2026-03-01").unwrap(), TimePoint::Instant(_)));
        assert!(matches!(parse("#inst \"2026\"").unwrap(), TimePoint::Instant(_)));
        let TimePoint::Instant(i) = parse("-2h").unwrap() else { panic!("an instant") };
        assert_eq!(distance(i, now()), "-2h");
        for wrong in ["", "last tuesday", "-2", "-x", "-99999999999999999999h", "-999999999999y"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn distances_are_short() {
        let at = |s: i64| distance(Instant(-s * 1_000_000), Instant(0));
        assert_eq!(
            [at(5), at(300), at(7_200), at(260_000), at(21_000_000), at(200_000_000)],
            ["now", "-5m", "-2h", "-3d", "-7mo", "-6y"]
        );
    }
}
