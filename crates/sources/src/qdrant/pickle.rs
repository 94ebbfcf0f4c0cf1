//! Pickled points, as qdrant-client's local store keeps them: their members as JSON.

use std::cell::Cell;
use std::fmt::Write;

use thiserror::Error;

use crate::pickle::{self, Limits, Pickle, PickleFault, Value};

/// Why a pickled point, or a member of it, is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Pickle(#[from] PickleFault),
    #[error("it is not a blob")]
    NoBlob,
    #[error("it exceeds {MAX_POINT_BYTES} bytes")]
    TooLong,
    #[error("the pickle is not of a point")]
    NoPoint,
    #[error("a value in the pickle has no place in JSON")]
    Value,
    #[error("a number in the pickle is not finite")]
    NotFinite,
    #[error("values in the pickle are nested too deeply, or repeated too often")]
    TooLarge,
}

/// Longest pickle that is read.
const MAX_POINT_BYTES: usize = 64 << 20;
/// Values of a point: some 256 MB at most.
const MAX_VALUES: usize = 8 << 20;
/// Values within values. PostgreSQL's own limit depends on its stack and is higher.
const MAX_DEPTH: usize = 500;
/// Bytes of JSON for each byte of a pickle, and besides. More come only from what is referred to again and again.
const MAX_BYTES_PER_BYTE: usize = 64;
const MAX_BYTES_BESIDES: usize = 4096;
/// Bytes of JSON in any case; PostgreSQL's jsonb does not take more.
const MAX_BYTES: usize = 256 << 20;
/// Values written between two looks at whether to give up.
const VALUES_BETWEEN_LOOKS: u32 = 1 << 16;

/// A point that was pickled.
pub(super) struct PickledPoint<'a> {
    pickle: Pickle<'a>,
    /// The dict of its members.
    members: usize,
    /// Bytes of JSON that a member may have.
    limit: usize,
    interrupted: fn() -> bool,
    /// Values written so far.
    written: Cell<u32>,
}

impl<'a> PickledPoint<'a> {
    pub(super) fn read(bytes: &'a [u8], interrupted: fn() -> bool) -> Result<Self, Fault> {
        if bytes.len() > MAX_POINT_BYTES {
            return Err(Fault::TooLong);
        }
        let pickle = pickle::read(bytes, Limits { values: MAX_VALUES, interrupted })?;
        let members = pickle.attributes(pickle.top()).ok_or(Fault::NoPoint)?;
        let limit = (bytes.len() * MAX_BYTES_PER_BYTE + MAX_BYTES_BESIDES).min(MAX_BYTES);
        Ok(Self { pickle, members, limit, interrupted, written: Cell::new(0) })
    }

    /// A member as JSON; null if it has none of that name.
    pub(super) fn member(&self, name: &str) -> Result<String, Fault> {
        let mut json = String::new();
        let value = self.pickle.get(self.members, name).unwrap_or(Value::None);
        self.write(&mut json, value, 0)?;
        Ok(json)
    }

    fn write(&self, json: &mut String, value: Value<'a>, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH || json.len() > self.limit {
            return Err(Fault::TooLarge);
        }
        self.written.set(self.written.get().wrapping_add(1));
        if self.written.get().is_multiple_of(VALUES_BETWEEN_LOOKS) && (self.interrupted)() {
            return Err(PickleFault::Interrupted.into());
        }
        match value {
            Value::None => json.push_str("null"),
            Value::Boolean(truth) => put(json, truth),
            Value::Integer(number) => put(json, number),
            Value::Float(number) if number.is_finite() => put(json, format_args!("{number:?}")),
            Value::Float(_) => return Err(Fault::NotFinite),
            Value::Text(text) => quote(json, text),
            Value::List(number) => {
                json.push('[');
                for (at, item) in self.pickle.list(number).iter().enumerate() {
                    if at > 0 {
                        json.push(',');
                    }
                    self.write(json, *item, depth + 1)?;
                }
                json.push(']');
            }
            Value::Dict(number) => self.write_object(json, number, depth)?,
            Value::Object(_) => {
                let attributes = self.pickle.attributes(value).ok_or(Fault::Value)?;
                self.write_object(json, attributes, depth)?;
            }
            Value::Other => return Err(Fault::Value),
        }
        Ok(())
    }

    fn write_object(&self, json: &mut String, dict: usize, depth: usize) -> Result<(), Fault> {
        json.push('{');
        for (at, (key, value)) in self.pickle.dict(dict).iter().enumerate() {
            let Value::Text(key) = key else { return Err(Fault::Value) };
            if at > 0 {
                json.push(',');
            }
            quote(json, key);
            json.push(':');
            self.write(json, *value, depth + 1)?;
        }
        json.push('}');
        Ok(())
    }
}

fn put(json: &mut String, value: impl std::fmt::Display) {
    write!(json, "{value}").expect("a String takes everything");
}

fn quote(json: &mut String, text: &str) {
    put(json, serde_json::Value::from(text));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<PickledPoint<'_>, Fault> {
        PickledPoint::read(bytes, || false)
    }

    #[test]
    fn what_is_no_point_is_refused() {
        // os.system('true'), as a pickle would call it: an object of nothing.
        let call = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.";
        assert_eq!(read(call).err(), Some(Fault::NoPoint));
        assert_eq!(read(b"}.").err(), Some(Fault::NoPoint));
    }

    #[test]
    fn members_are_told_as_json() {
        let pickle = b"c\n\n)\x81}(X\x02\0\0\0idK\x07X\x07\0\0\0payload}X\x01\0\0\0a](NK\x01\x88G\x3f\xf8\0\0\0\0\0\0es\
            X\x01\0\0\0xC\x01nub.";
        let point = read(pickle).expect("a point");
        assert_eq!(point.member("id").as_deref(), Ok("7"));
        assert_eq!(point.member("payload").as_deref(), Ok("{\"a\":[null,1,true,1.5]}"));
        assert_eq!(point.member("vector").as_deref(), Ok("null"));
        assert_eq!(point.member("x"), Err(Fault::Value));
    }

    #[test]
    fn what_is_repeated_or_contains_itself_has_an_end() {
        // A list in itself.
        let mut endless = b"\x80\x04c\n\n)\x81}(X\x02\0\0\0idK\x01X\x07\0\0\0payload]\x94h\0aub.".to_vec();
        assert_eq!(read(&endless).expect("a point").member("payload"), Err(Fault::TooLarge));
        // Lists of two of the last one, thirty times.
        endless = b"\x80\x04c\n\n)\x81}(X\x02\0\0\0idK\x01X\x07\0\0\0payload]\x94".to_vec();
        for level in 0..30_u8 {
            endless.extend([b'0', b'h', level, b'h', level, 0x86, 0x94]);
        }
        endless.extend(b"ub.");
        assert_eq!(read(&endless).expect("a point").member("payload"), Err(Fault::TooLarge));
    }

    #[test]
    fn writing_can_be_interrupted() {
        // A list of a hundred thousand nulls, which takes as many steps to read as to write: two looks.
        thread_local!(static LOOKS: Cell<u32> = const { Cell::new(0) });
        let second = || LOOKS.replace(LOOKS.get() + 1) == 1;
        let mut long = b"c\n\n)\x81}X\x07\0\0\0payload](".to_vec();
        long.extend(b"N".repeat(100_000));
        long.extend(b"esb.");
        let point = PickledPoint::read(&long, second).expect("a point");
        assert_eq!(point.member("payload"), Err(Fault::Pickle(PickleFault::Interrupted)));
    }

    proptest! {
        #[test]
        fn no_sequence_of_instructions_breaks_it(steps in proptest::collection::vec(
            proptest::sample::select(b"(0N\x88K]))}aestu\x8f\x90\x94hRb\x81\x93\x85\x86.".to_vec()), 0..200)
        ) {
            if let Ok(point) = read(&steps) {
                // Whatever comes of it.
                let _ = point.member("payload");
            }
        }
    }
}
