//! Dates and times as programs write them.

use crate::error::Problem;
use crate::host::Zone;

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;
/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS * MICROS_PER_DAY;
/// Last moment of the year 9999, and first of 1 AD, as text can tell them, in microseconds since 2000.
const LAST: i64 = (2_932_897 - EPOCH_DAYS) * MICROS_PER_DAY - 1;
const FIRST: i64 = (-719_162 - EPOCH_DAYS) * MICROS_PER_DAY;

/// A date and time of day, with an offset from UTC in seconds if it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    /// Microseconds since 2000-01-01 00:00, there.
    local: i64,
    offset: Option<i64>,
}

/// Microseconds since 2000-01-01 00:00 UTC of a text such as `2025-09-01 10:00:00.123456+02:00`.
pub(crate) fn timestamptz(text: &str, zone: &dyn Zone) -> Result<i64, Problem> {
    let moment = parse(text)?;
    Ok(match moment.offset {
        Some(offset) => moment.local - offset * MICROS_PER_SECOND,
        None => zone.to_utc(moment.local),
    })
}

/// Microseconds since 2000-01-01 00:00 of a text that names no zone.
pub(crate) fn timestamp(text: &str) -> Result<i64, Problem> {
    let moment = parse(text)?;
    match moment.offset {
        None => Ok(moment.local),
        Some(_) => Err(Problem::Inexact),
    }
}

/// Days since 2000-01-01 of a text that tells a date, and no time of day but midnight.
pub(crate) fn date(text: &str) -> Result<i32, Problem> {
    let moment = parse(text)?;
    if moment.offset.is_some() || moment.local.rem_euclid(MICROS_PER_DAY) != 0 {
        return Err(Problem::Inexact);
    }
    i32::try_from(moment.local.div_euclid(MICROS_PER_DAY)).map_err(|_| Problem::Range)
}

/// A moment that is told as a number: of seconds since 1970, or, where that would be beyond the year 9999, which stands
/// for "never" in many an application, milliseconds or microseconds.
pub(crate) fn of_integer(number: i64) -> Result<i64, Problem> {
    const SECONDS: u64 = 253_402_300_800;
    const MILLISECONDS: u64 = SECONDS * 1000;
    let factor = match number.unsigned_abs() {
        0..SECONDS => MICROS_PER_SECOND,
        SECONDS..MILLISECONDS => 1000,
        _ => 1,
    };
    number
        .checked_mul(factor)
        .and_then(|micros| micros.checked_sub(EPOCH_MICROS))
        .map_or(Err(Problem::Range), within)
}

/// A moment that is told as a number with a fraction: of days in the Julian calendar where that is what SQLite's own
/// functions take it for, otherwise of seconds since 1970.
pub(crate) fn of_real(number: f64) -> Result<i64, Problem> {
    const JULIAN: std::ops::Range<f64> = 1_721_425.5..5_373_484.5;
    const JULIAN_2000: f64 = 2_451_544.5;
    if JULIAN.contains(&number) {
        // Milliseconds are what the format can tell.
        let milliseconds = ((number - JULIAN_2000) * (SECONDS_PER_DAY * 1000) as f64).round();
        return within(milliseconds as i64 * 1000);
    }
    let micros = (number * MICROS_PER_SECOND as f64).round();
    if !micros.is_finite() || micros.abs() > 4e17 {
        return Err(Problem::Range);
    }
    within(micros as i64 - EPOCH_MICROS)
}

fn within(micros: i64) -> Result<i64, Problem> {
    if (FIRST..=LAST).contains(&micros) { Ok(micros) } else { Err(Problem::Range) }
}

/// Reads digits, and what stands between them.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn skip_blanks(&mut self) {
        while self.take(b' ') {}
    }

    /// A number of exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let mut number = 0;
        for digit in digits {
            number = number * 10 + i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        }
        self.0 = rest;
        Some(number)
    }

    /// Microseconds of a fraction after its point, rounded.
    fn fraction(&mut self) -> Option<i64> {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(length);
        if digits.is_empty() {
            return None;
        }
        self.0 = rest;
        let digit = |at: usize| digits.get(at).map_or(0, |digit| i64::from(digit - b'0'));
        let micros = (0..6).fold(0, |micros, at| micros * 10 + digit(at));
        Some(micros + i64::from(digit(6) >= 5))
    }

    /// Seconds after `+` or `-`: `02:00`, `0200`, `02`, `02:00:30`.
    fn offset(&mut self) -> Option<i64> {
        let hours = self.digits(2)?;
        let colon = self.take(b':');
        let minutes = if colon || !self.0.is_empty() { self.digits(2)? } else { 0 };
        let seconds = if colon && self.take(b':') { self.digits(2)? } else { 0 };
        (hours <= 15 && minutes < 60 && seconds < 60).then_some((hours * 60 + minutes) * 60 + seconds)
    }
}

fn parse(text: &str) -> Result<Moment, Problem> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(Problem::Empty);
    }
    let moment = parse_moment(&mut Cursor(text.as_bytes())).ok_or(Problem::Syntax)?;
    within(moment.local).map(|_| moment)
}

fn parse_moment(cursor: &mut Cursor<'_>) -> Option<Moment> {
    let year = cursor.digits(4)?;
    let month = cursor.take(b'-').then(|| cursor.digits(2))??;
    let day = cursor.take(b'-').then(|| cursor.digits(2))??;
    let days = days(year, month, day)?;
    if cursor.0.is_empty() {
        return Some(Moment { local: days * MICROS_PER_DAY, offset: None });
    }
    if !(cursor.take(b'T') || cursor.take(b't') || cursor.take(b' ')) {
        return None;
    }
    cursor.skip_blanks();
    let hours = cursor.digits(2)?;
    let minutes = cursor.take(b':').then(|| cursor.digits(2))??;
    let seconds = if cursor.take(b':') { cursor.digits(2)? } else { 0 };
    let micros = if cursor.take(b'.') || cursor.take(b',') { cursor.fraction()? } else { 0 };
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    cursor.skip_blanks();
    let offset = match cursor.0 {
        [] => None,
        b"Z" | b"z" | b"UTC" | b"GMT" => {
            cursor.0 = &[];
            Some(0)
        }
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let sign = if *sign == b'-' { -1 } else { 1 };
            cursor.0 = rest;
            Some(sign * cursor.offset()?)
        }
        _ => return None,
    };
    let local = days * MICROS_PER_DAY + ((hours * 60 + minutes) * 60 + seconds) * MICROS_PER_SECOND + micros;
    cursor.0.is_empty().then_some(Moment { local, offset })
}

/// Days since 2000-01-01 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || !(1..=length).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    const DAYS_TO_2000: i64 = 730_425;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_2000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hours east of Greenwich, all year.
    struct East;

    impl Zone for East {
        fn to_utc(&self, local: i64) -> i64 {
            local - 7200 * MICROS_PER_SECOND
        }
    }

    fn at(text: &str) -> Result<i64, Problem> {
        timestamptz(text, &East)
    }

    #[test]
    fn days_are_counted_from_2000() {
        assert_eq!(days(2000, 1, 1), Some(0));
        assert_eq!(days(1970, 1, 1), Some(-EPOCH_DAYS));
        assert_eq!(days(2000, 3, 1), Some(60));
        assert_eq!(days(2001, 1, 1), Some(366));
        assert_eq!(days(1999, 12, 31), Some(-1));
        assert_eq!(days(1, 1, 1), Some(FIRST / MICROS_PER_DAY));
        assert_eq!(days(9999, 12, 31), Some(LAST / MICROS_PER_DAY));
        assert_eq!(days(2023, 2, 29), None);
        assert_eq!(days(2100, 2, 29), None);
        assert_eq!(days(2024, 13, 1), None);
        assert_eq!(days(2024, 0, 1), None);
        assert_eq!(days(2024, 4, 31), None);
    }

    #[test]
    fn moments_are_told_in_many_ways() {
        let noon = 12 * 3600 * MICROS_PER_SECOND;
        for text in [
            "2000-01-01 12:00:00Z",
            "2000-01-01T12:00Z",
            "2000-01-01 14:00:00",
            "2000-01-01 14:00",
            "2000-01-01T17:30:00.000+05:30",
            "2000-01-01 17:30:00.0 +0530",
            "2000-01-01 10:00:00-02",
            " 2000-01-01t12:00:00,000 UTC ",
        ] {
            assert_eq!(at(text), Ok(noon), "{text}");
        }
        assert_eq!(at("2000-01-01 02:00:00.123456"), Ok(123_456));
        assert_eq!(at("2000-01-01 00:00:00.1234567Z"), Ok(123_457));
        assert_eq!(at("2000-01-01 02:00:00.5"), Ok(500_000));
        assert_eq!(at("2000-01-02"), Ok(22 * 3600 * MICROS_PER_SECOND));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "n/a",
            "now",
            "2025",
            "2025-9-1",
            "2025-09-01 25:00:00",
            "2025-09-01 10:60",
            "2025-09-01 10:00:00+25:00",
            "2025-09-01 10:00:00 MST",
            "2025-02-30",
            "2025-09-01x",
            "2025-09-01 10:00:00.",
            "2025-09-01 10:00:00.5Zz",
            "٢٠٢٥-09-01",
        ] {
            assert_eq!(at(text), Err(Problem::Syntax), "{text}");
        }
        assert_eq!(at(""), Err(Problem::Empty));
        assert_eq!(at("  "), Err(Problem::Empty));
    }

    #[test]
    fn zones_do_not_get_lost() {
        assert_eq!(timestamp("2000-01-01 00:00:01"), Ok(MICROS_PER_SECOND));
        assert_eq!(timestamp("2000-01-01 00:00:01Z"), Err(Problem::Inexact));
        assert_eq!(date("2000-01-02"), Ok(1));
        assert_eq!(date("1999-12-31 00:00:00"), Ok(-1));
        assert_eq!(date("2000-01-02 01:00"), Err(Problem::Inexact));
    }

    #[test]
    fn numbers_are_seconds_or_smaller() {
        let expected = at("2025-09-01 10:00:00Z");
        assert_eq!(of_integer(1_756_720_800), expected);
        assert_eq!(of_integer(1_756_720_800_000), expected);
        assert_eq!(of_integer(1_756_720_800_000_000), expected);
        assert_eq!(of_real(1_756_720_800.0), expected);
        assert_eq!(of_real(2_460_919.916_666_666_5), expected);
        assert_eq!(of_integer(0), at("1970-01-01Z").or(at("1970-01-01 00:00Z")));
        // "Never", in seconds.
        assert_eq!(of_integer(253_402_300_799), at("9999-12-31 23:59:59Z"));
        assert_eq!(of_integer(i64::MAX), Err(Problem::Range));
        assert_eq!(of_integer(i64::MIN), Err(Problem::Range));
        assert_eq!(of_real(f64::INFINITY), Err(Problem::Range));
        assert_eq!(of_real(1e300), Err(Problem::Range));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "\\PC{0,40}") {
            let _ = at(&text);
        }

        #[test]
        fn what_is_written_is_read(micros in FIRST..=LAST) {
            let (day, rest) = (micros.div_euclid(MICROS_PER_DAY), micros.rem_euclid(MICROS_PER_DAY));
            // By the calendar's definition, year by year.
            let (mut year, mut left) = (1, day - FIRST / MICROS_PER_DAY);
            let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = |year| if is_leap(year) { 366 } else { 365 };
            while left >= length(year) {
                left -= length(year);
                year += 1;
            }
            let months = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let mut month = 0;
            while left >= months[month] {
                left -= months[month];
                month += 1;
            }
            let (seconds, micro) = (rest / MICROS_PER_SECOND, rest % MICROS_PER_SECOND);
            let text = format!(
                "{year:04}-{:02}-{:02} {:02}:{:02}:{:02}.{micro:06}Z",
                month + 1, left + 1, seconds / 3600, seconds / 60 % 60, seconds % 60
            );
            proptest::prop_assert_eq!(at(&text), Ok(micros));
        }
    }
}
