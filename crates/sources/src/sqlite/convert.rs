//! From SQLite's values to PostgreSQL's: what does not fit is told, never bent.

use std::fmt::Write;

use rusqlite::types::ValueRef;

use super::schema::Affinity;
use crate::error::Problem;
use crate::host::Zone;
use crate::text::{self, InvalidText};
use crate::time;
use crate::value::{self, MAX_DIMENSIONS, Type, Value};

/// What a column's values are to become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) of: Type,
    pub(super) affinity: Affinity,
    pub(super) invalid_text: InvalidText,
}

/// Where values are put together that are not there as they are wanted.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    text: String,
    numbers: Vec<f32>,
}

/// Integers that every double represents, up to this and down to its negative.
const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
/// PostgreSQL's numeric has no more digits before its point.
const MAX_NUMERIC_DIGITS: usize = 131_072;

/// A value as the target has it.
pub(super) fn convert<'a>(
    value: ValueRef<'a>,
    target: Target,
    zone: &dyn Zone,
    scratch: &'a mut Scratch,
) -> Result<Value<'a>, Problem> {
    if matches!(value, ValueRef::Null) {
        return Ok(Value::Null);
    }
    match target.of {
        Type::Boolean => boolean(value),
        Type::Smallint => integer(value, target, i64::from(i16::MIN)..=i64::from(i16::MAX)),
        Type::Integer => integer(value, target, i64::from(i32::MIN)..=i64::from(i32::MAX)),
        Type::Bigint => integer(value, target, i64::MIN..=i64::MAX),
        Type::Real => real(value, target),
        Type::Double => double(value, target).map(Value::Float),
        Type::Numeric => numeric(value, &mut scratch.text),
        Type::Text => text(value, target, &mut scratch.text).map(Value::Text),
        Type::Json | Type::Jsonb => text(value, target, &mut scratch.text).map(Value::Json),
        Type::Bytea => match value {
            ValueRef::Blob(bytes) => Ok(Value::Bytea(bytes)),
            other => Err(kind(other)),
        },
        Type::Timestamptz => match value {
            ValueRef::Text(bytes) => time::timestamptz(valid(bytes)?, zone),
            ValueRef::Integer(number) => time::of_integer(number),
            ValueRef::Real(number) => time::of_real(number),
            other => Err(kind(other)),
        }
        .map(Value::Timestamp),
        Type::Timestamp => match value {
            ValueRef::Text(bytes) => time::timestamp(valid(bytes)?).map(Value::Timestamp),
            other => Err(kind(other)),
        },
        Type::Date => match value {
            ValueRef::Text(bytes) => time::date(valid(bytes)?).map(Value::Date),
            other => Err(kind(other)),
        },
        Type::Uuid => match value {
            ValueRef::Text(bytes) => uuid(valid(bytes)?.trim_ascii()).map(Value::Uuid),
            ValueRef::Blob(bytes) => bytes.try_into().map(Value::Uuid).map_err(|_| Problem::Syntax),
            other => Err(kind(other)),
        },
        Type::Vector(dimensions) => vector(value, dimensions, &mut scratch.numbers),
    }
}

/// Tells of a value what kind it is.
fn kind(value: ValueRef<'_>) -> Problem {
    match value {
        ValueRef::Text([]) => Problem::Empty,
        ValueRef::Text(_) => Problem::Kind("text"),
        ValueRef::Integer(_) => Problem::Kind("an integer"),
        ValueRef::Real(_) => Problem::Kind("a real number"),
        ValueRef::Blob(_) => Problem::Kind("a blob"),
        ValueRef::Null => Problem::Kind("NULL"),
    }
}

/// Text that tells something else; has to be right whatever happens to invalid text.
fn valid(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|_| Problem::Encoding)
}

fn boolean(value: ValueRef<'_>) -> Result<Value<'static>, Problem> {
    let truth = match value {
        ValueRef::Integer(0) => false,
        ValueRef::Integer(1) => true,
        ValueRef::Integer(_) => return Err(Problem::Range),
        ValueRef::Text(bytes) => match valid(bytes)?.trim_ascii().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => true,
            "false" | "f" | "no" | "n" | "off" | "0" => false,
            "" => return Err(Problem::Empty),
            _ => return Err(Problem::Syntax),
        },
        other => return Err(kind(other)),
    };
    Ok(Value::Boolean(truth))
}

/// Whether text in the column may tell a number. Where SQLite itself makes numbers of such text, what is still text
/// is none; and a condition on the column would not find it.
fn may_tell_number(target: Target) -> bool {
    matches!(target.affinity, Affinity::Text | Affinity::Blob)
}

fn integer(
    value: ValueRef<'_>,
    target: Target,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Value<'static>, Problem> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    let number = match value {
        ValueRef::Integer(number) => number,
        ValueRef::Real(number) if number.fract() != 0.0 || number.is_infinite() => {
            return Err(if number.is_infinite() { Problem::Range } else { Problem::Inexact });
        }
        ValueRef::Real(number) if (-BEYOND..BEYOND).contains(&number) => number as i64,
        ValueRef::Real(_) => return Err(Problem::Range),
        ValueRef::Text(bytes) if may_tell_number(target) => {
            let digits = valid(bytes)?.trim_ascii();
            digits.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
                std::num::IntErrorKind::Empty => Problem::Empty,
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => Problem::Range,
                _ => Problem::Syntax,
            })?
        }
        other => return Err(kind(other)),
    };
    if range.contains(&number) { Ok(Value::Integer(number)) } else { Err(Problem::Range) }
}

fn double(value: ValueRef<'_>, target: Target) -> Result<f64, Problem> {
    match value {
        ValueRef::Real(number) => Ok(number),
        ValueRef::Integer(number) if number.unsigned_abs() <= EXACT => Ok(number as f64),
        ValueRef::Integer(number) if number as f64 as i128 == i128::from(number) => Ok(number as f64),
        ValueRef::Integer(_) => Err(Problem::Inexact),
        ValueRef::Text(bytes) if may_tell_number(target) => {
            let digits = valid(bytes)?.trim_ascii();
            if digits.is_empty() {
                return Err(Problem::Empty);
            }
            if !is_numeral(digits) {
                return Err(Problem::Syntax);
            }
            let number: f64 = digits.parse().map_err(|_| Problem::Syntax)?;
            if number.is_finite() { Ok(number) } else { Err(Problem::Range) }
        }
        other => Err(kind(other)),
    }
}

fn real(value: ValueRef<'_>, target: Target) -> Result<Value<'static>, Problem> {
    let number = double(value, target)?;
    // Rounding to its precision is what the type is for, but not to infinity or zero.
    let rounded = number as f32;
    if rounded.is_infinite() != number.is_infinite() || (rounded == 0.0) != (number == 0.0) {
        return Err(Problem::Range);
    }
    Ok(Value::Float(f64::from(rounded)))
}

/// Whether a text is a number as both SQL dialects write it: `-12.5e3`.
fn is_numeral(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let whole = digits(unsigned);
    let mut rest = &unsigned[whole..];
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix('.') {
        fraction = digits(after);
        rest = &after[fraction..];
    }
    if let Some(after) = rest.strip_prefix(['e', 'E']) {
        let power = after.strip_prefix(['+', '-']).unwrap_or(after);
        let length = digits(power);
        return whole + fraction > 0 && (1..=4).contains(&length) && length == power.len();
    }
    whole + fraction > 0 && rest.is_empty()
}

fn numeric<'a>(value: ValueRef<'a>, scratch: &'a mut String) -> Result<Value<'a>, Problem> {
    scratch.clear();
    match value {
        ValueRef::Integer(number) => put(scratch, number),
        ValueRef::Real(number) if number.is_infinite() => {
            scratch.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
        }
        // The shortest that is read as the same number.
        ValueRef::Real(number) => put(scratch, format_args!("{number:?}")),
        ValueRef::Text(bytes) => {
            let digits = valid(bytes)?.trim_ascii();
            return match digits {
                "" => Err(Problem::Empty),
                _ if !is_numeral(digits) => Err(Problem::Syntax),
                _ if digits.len() > MAX_NUMERIC_DIGITS => Err(Problem::Range),
                _ => Ok(Value::Numeric(digits)),
            };
        }
        other => return Err(kind(other)),
    }
    Ok(Value::Numeric(scratch))
}

fn put(text: &mut String, value: impl std::fmt::Display) {
    write!(text, "{value}").expect("a String takes everything");
}

fn text<'a>(value: ValueRef<'a>, target: Target, scratch: &'a mut String) -> Result<&'a str, Problem> {
    scratch.clear();
    match value {
        ValueRef::Text(bytes) => return text::fitting(bytes, target.invalid_text, scratch),
        // A column of text holds numbers as text; others may hold anything.
        ValueRef::Integer(number) if target.affinity != Affinity::Text => put(scratch, number),
        ValueRef::Real(number) if target.affinity != Affinity::Text => {
            put(scratch, format_args!("{number:?}"))
        }
        other => return Err(kind(other)),
    }
    Ok(scratch)
}

fn uuid(text: &str) -> Result<[u8; 16], Problem> {
    if text.is_empty() { Err(Problem::Empty) } else { value::uuid(text).ok_or(Problem::Syntax) }
}

/// A vector as sqlite-vec stores it, in little-endian floats or as JSON.
fn vector<'a>(
    value: ValueRef<'a>,
    dimensions: Option<u16>,
    numbers: &'a mut Vec<f32>,
) -> Result<Value<'a>, Problem> {
    numbers.clear();
    match value {
        ValueRef::Blob(bytes) if bytes.len() % 4 == 0 => {
            let four = bytes.chunks_exact(4).map(|four| [four[0], four[1], four[2], four[3]]);
            numbers.extend(four.map(f32::from_le_bytes));
        }
        ValueRef::Blob(_) => return Err(Problem::Syntax),
        ValueRef::Text(bytes) => {
            let list = valid(bytes)?.trim_ascii();
            let list =
                list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).ok_or(Problem::Syntax)?;
            for number in list.split(',').map(str::trim_ascii) {
                let number = Some(number).filter(|number| is_numeral(number)).ok_or(Problem::Syntax)?;
                numbers.push(number.parse().map_err(|_| Problem::Syntax)?);
            }
        }
        other => return Err(kind(other)),
    }
    let found = numbers.len();
    match dimensions {
        Some(expected) if usize::from(expected) != found => Err(Problem::Dimensions { expected, found }),
        _ if numbers.iter().any(|number| !number.is_finite()) => Err(Problem::NotFinite),
        _ if found == 0 => Err(Problem::Empty),
        _ if found > MAX_DIMENSIONS => Err(Problem::Range),
        _ => Ok(Value::Vector(numbers)),
    }
}

/// A value as one would write it in SQL, cut to a readable length.
pub(super) fn tell(value: ValueRef<'_>) -> String {
    const MAX_CHARS: usize = 60;
    const MAX_BYTES: usize = 30;
    let cut = |more: bool| if more { "..." } else { "" };
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(bytes) => {
            let mut told = String::from("'");
            let mut count = 0;
            'chunks: for chunk in bytes.utf8_chunks() {
                for character in chunk.valid().chars() {
                    if count == MAX_CHARS {
                        break 'chunks;
                    }
                    count += 1;
                    match character {
                        '\'' => told.push_str("''"),
                        _ if character.is_control() => {
                            put(&mut told, format_args!("\\x{:02x}", u32::from(character)))
                        }
                        _ => told.push(character),
                    }
                }
                chunk.invalid().iter().for_each(|byte| put(&mut told, format_args!("\\x{byte:02x}")));
            }
            told.push('\'');
            told + cut(count == MAX_CHARS && bytes.len() > MAX_CHARS)
        }
        ValueRef::Blob(bytes) => {
            let mut told = String::from("x'");
            bytes.iter().take(MAX_BYTES).for_each(|byte| put(&mut told, format_args!("{byte:02x}")));
            told.push('\'');
            told + cut(bytes.len() > MAX_BYTES)
        }
    }
}
