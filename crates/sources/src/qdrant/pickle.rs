//! Pickles of points, as qdrant-client's local store keeps them.
//!
//! A pickle is a program for a stack machine. Of its instructions those are carried out that put data together;
//! classes are never looked up, nothing is called. What is built lies in flat lists and is referred to by number, so
//! neither depth nor repeated references cost anything; turning it into JSON has limits for both.

use std::fmt::Write;

/// Why a pickle is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the pickle ends in the middle")]
    Truncated,
    #[error("the pickle is malformed at byte {0}")]
    Malformed(usize),
    #[error("the pickle has instruction 0x{0:02x} at byte {1}, which is none that builds data")]
    Instruction(u8, usize),
    #[error("the pickle is not of a point")]
    NoPoint,
    #[error("a value in the pickle has no place in JSON")]
    Value,
    #[error("a number in the pickle is not finite")]
    NotFinite,
    #[error("values in the pickle are nested too deeply, or repeated too often")]
    TooLarge,
}

/// Values within values. PostgreSQL's own limit depends on its stack and is higher.
const MAX_DEPTH: usize = 500;
/// Bytes of JSON for each byte of a pickle, and besides. More come only from what is referred to again and again.
const MAX_BYTES_PER_BYTE: usize = 64;
const MAX_BYTES_BESIDES: usize = 4096;
/// Bytes of JSON in any case; PostgreSQL's jsonb does not take more.
const MAX_BYTES: usize = 256 << 20;
/// Bytes of an integer. Python writes larger ones, but no number of this size is one of a point.
const MAX_INTEGER: usize = 16;

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    None,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(&'a str),
    /// Their number in [`Machine::lists`], also of tuples.
    List(usize),
    /// Its number in [`Machine::dicts`].
    Dict(usize),
    /// An object, with the number in [`Machine::objects`] of what it is made of.
    Object(usize),
    /// Something that no point has: a class, bytes, a set.
    Other,
}

/// What a pickle says.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    lists: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    /// The attributes of each object.
    objects: Vec<Value<'a>>,
    top: Value<'a>,
    bytes: usize,
}

/// A point's attributes as JSON.
#[derive(Debug, PartialEq)]
pub(super) struct PointStruct {
    pub(super) id: String,
    pub(super) payload: Result<String, Fault>,
    pub(super) vector: Result<String, Fault>,
}

/// Reads a whole pickle.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, Fault> {
    Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        built: Pickle::new(bytes.len()),
    }
    .run()
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: Vec<Value<'a>>,
    built: Pickle<'a>,
}

impl<'a> Machine<'a> {
    fn run(mut self) -> Result<Pickle<'a>, Fault> {
        loop {
            let at = self.at;
            let [instruction] = self.array()?;
            match instruction {
                0x80 => drop(self.take(1)?), // PROTO
                0x95 => drop(self.take(8)?), // FRAME
                b'.' => {
                    self.built.top = self.pop()?; // STOP
                    return Ok(self.built);
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?), // POP
                b'N' => self.stack.push(Value::None),
                0x88 => self.stack.push(Value::Boolean(true)),
                0x89 => self.stack.push(Value::Boolean(false)),
                b'K' => self.integer(1, false)?,
                b'M' => self.integer(2, false)?,
                b'J' => self.integer(4, true)?,
                0x8a => {
                    let [length] = self.array()?; // LONG1
                    self.integer(length.into(), true)?;
                }
                b'G' => {
                    let number = f64::from_be_bytes(self.array()?);
                    self.stack.push(Value::Float(number));
                }
                0x8c => self.text(1)?,                // SHORT_BINUNICODE
                b'X' => self.text(4)?,                // BINUNICODE
                0x8d => self.text(8)?,                // BINUNICODE8
                b'C' => self.other(1)?,               // SHORT_BINBYTES
                b'B' => self.other(4)?,               // BINBYTES
                0x8e | 0x96 => self.other(8)?,        // BINBYTES8, BYTEARRAY8
                b']' | b')' => self.list(Vec::new()), // EMPTY_LIST, EMPTY_TUPLE
                0x85..=0x87 => {
                    let count = usize::from(instruction - 0x84); // TUPLE1 to TUPLE3
                    // What lies below a mark belongs to what is built there.
                    let least = self.marks.last().copied().unwrap_or_default();
                    let base = self.stack.len().checked_sub(count).filter(|base| *base >= least);
                    let items = self.stack.split_off(base.ok_or(Fault::Malformed(at))?);
                    self.list(items);
                }
                b't' => {
                    let items = self.since_mark()?; // TUPLE
                    self.list(items);
                }
                b'a' => {
                    let item = self.pop()?; // APPEND
                    self.append(vec![item], at)?;
                }
                b'e' => {
                    let items = self.since_mark()?; // APPENDS
                    self.append(items, at)?;
                }
                b'}' => {
                    self.stack.push(Value::Dict(self.built.dicts.len())); // EMPTY_DICT
                    self.built.dicts.push(Vec::new());
                }
                b's' => {
                    let value = self.pop()?; // SETITEM
                    let key = self.pop()?;
                    self.set_items(&[key, value], at)?;
                }
                b'u' => {
                    let items = self.since_mark()?; // SETITEMS
                    self.set_items(&items, at)?;
                }
                0x8f => self.stack.push(Value::Other), // EMPTY_SET
                0x90 => drop(self.since_mark()?),      // ADDITEMS, to a set that nobody looks at
                0x91 => {
                    self.since_mark()?; // FROZENSET
                    self.stack.push(Value::Other);
                }
                0x94 => self.remember(self.memo.len(), at)?, // MEMOIZE
                b'q' => {
                    let index = self.length(1)?; // BINPUT
                    self.remember(index, at)?;
                }
                b'r' => {
                    let index = self.length(4)?; // LONG_BINPUT
                    self.remember(index, at)?;
                }
                b'h' => {
                    let index = self.length(1)?; // BINGET
                    self.recall(index, at)?;
                }
                b'j' => {
                    let index = self.length(4)?; // LONG_BINGET
                    self.recall(index, at)?;
                }
                b'c' => {
                    self.line()?; // GLOBAL: module and name of a class
                    self.line()?;
                    self.stack.push(Value::Other);
                }
                0x93 => {
                    self.pop()?; // STACK_GLOBAL
                    self.pop()?;
                    self.stack.push(Value::Other);
                }
                0x81 | b'R' => {
                    self.pop()?; // NEWOBJ, REDUCE: nothing is made or called
                    self.pop()?;
                    self.stack.push(Value::Object(self.built.objects.len()));
                    self.built.objects.push(Value::None);
                }
                b'b' => {
                    let attributes = self.pop()?; // BUILD
                    match self.stack.last() {
                        Some(Value::Object(number)) => self.built.objects[*number] = attributes,
                        _ => return Err(Fault::Malformed(at)),
                    }
                }
                other => return Err(Fault::Instruction(other, at)),
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(count).ok_or(Fault::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(Fault::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many bytes as were taken"))
    }

    /// A length or index in so many bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, Fault> {
        let number = self.take(bytes)?.iter().rev().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        usize::try_from(number).map_err(|_| Fault::Truncated)
    }

    fn integer(&mut self, bytes: usize, signed: bool) -> Result<(), Fault> {
        let taken = self.take(bytes)?;
        self.stack.push(if bytes > MAX_INTEGER {
            Value::Other
        } else {
            let negative = signed && taken.last().is_some_and(|byte| byte & 0x80 != 0);
            let start = if negative { -1 } else { 0 };
            Value::Integer(taken.iter().rev().fold(start, |sum: i128, byte| sum << 8 | i128::from(*byte)))
        });
        Ok(())
    }

    fn text(&mut self, bytes: usize) -> Result<(), Fault> {
        let at = self.at;
        let length = self.length(bytes)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Fault::Malformed(at))?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn other(&mut self, bytes: usize) -> Result<(), Fault> {
        let length = self.length(bytes)?;
        self.take(length)?;
        self.stack.push(Value::Other);
        Ok(())
    }

    fn line(&mut self) -> Result<(), Fault> {
        let length = self.bytes[self.at..].iter().position(|byte| *byte == b'\n').ok_or(Fault::Truncated)?;
        self.at += length + 1;
        Ok(())
    }

    fn pop(&mut self) -> Result<Value<'a>, Fault> {
        // What lies below a mark belongs to what is built there.
        let at = self.at - 1;
        if self.marks.last().is_some_and(|mark| *mark >= self.stack.len()) {
            return Err(Fault::Malformed(at));
        }
        self.stack.pop().ok_or(Fault::Malformed(at))
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>, Fault> {
        let base = self.marks.pop().ok_or(Fault::Malformed(self.at - 1))?;
        Ok(self.stack.split_off(base))
    }

    fn list(&mut self, items: Vec<Value<'a>>) {
        self.stack.push(Value::List(self.built.lists.len()));
        self.built.lists.push(items);
    }

    fn append(&mut self, items: Vec<Value<'a>>, at: usize) -> Result<(), Fault> {
        match self.stack.last() {
            Some(Value::List(number)) => {
                self.built.lists[*number].extend(items);
                Ok(())
            }
            _ => Err(Fault::Malformed(at)),
        }
    }

    fn set_items(&mut self, items: &[Value<'a>], at: usize) -> Result<(), Fault> {
        match self.stack.last() {
            Some(Value::Dict(number)) if items.len().is_multiple_of(2) => {
                self.built.dicts[*number].extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err(Fault::Malformed(at)),
        }
    }

    fn remember(&mut self, index: usize, at: usize) -> Result<(), Fault> {
        let top = *self.stack.last().ok_or(Fault::Malformed(at))?;
        // Writers number what they remember without gaps.
        match index.cmp(&self.memo.len()) {
            std::cmp::Ordering::Less => self.memo[index] = top,
            std::cmp::Ordering::Equal => self.memo.push(top),
            std::cmp::Ordering::Greater => return Err(Fault::Malformed(at)),
        }
        Ok(())
    }

    fn recall(&mut self, index: usize, at: usize) -> Result<(), Fault> {
        let value = *self.memo.get(index).ok_or(Fault::Malformed(at))?;
        self.stack.push(value);
        Ok(())
    }
}

impl<'a> Pickle<'a> {
    fn new(bytes: usize) -> Self {
        Self { lists: Vec::new(), dicts: Vec::new(), objects: Vec::new(), top: Value::None, bytes }
    }

    /// The point that was pickled.
    pub(super) fn point(&self) -> Result<PointStruct, Fault> {
        let attributes = self.attributes(self.top).ok_or(Fault::NoPoint)?;
        let json = |name| match self.get(attributes, name) {
            Some(value) => self.json(value),
            None => Ok("null".to_owned()),
        };
        let id = self.get(attributes, "id").ok_or(Fault::NoPoint)?;
        Ok(PointStruct { id: self.json(id)?, payload: json("payload"), vector: json("vector") })
    }

    /// The attributes of an object: of a pydantic model, or as Python keeps them.
    fn attributes(&self, object: Value<'a>) -> Option<usize> {
        let Value::Object(number) = object else { return None };
        let Value::Dict(state) = self.objects[number] else { return None };
        match self.get(state, "__dict__") {
            Some(Value::Dict(attributes)) => Some(attributes),
            _ => Some(state),
        }
    }

    fn get(&self, dict: usize, name: &str) -> Option<Value<'a>> {
        let named = |(key, _): &&(Value<'a>, Value<'a>)| matches!(key, Value::Text(key) if *key == name);
        self.dicts[dict].iter().rev().find(named).map(|(_, value)| *value)
    }

    fn json(&self, value: Value<'a>) -> Result<String, Fault> {
        let limit = (self.bytes * MAX_BYTES_PER_BYTE + MAX_BYTES_BESIDES).min(MAX_BYTES);
        let mut json = String::new();
        self.write(&mut json, value, 0, limit)?;
        Ok(json)
    }

    fn write(&self, json: &mut String, value: Value<'a>, depth: usize, limit: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH || json.len() > limit {
            return Err(Fault::TooLarge);
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
                for (at, item) in self.lists[number].iter().enumerate() {
                    if at > 0 {
                        json.push(',');
                    }
                    self.write(json, *item, depth + 1, limit)?;
                }
                json.push(']');
            }
            Value::Dict(number) => self.write_object(json, number, depth, limit)?,
            Value::Object(_) => {
                let attributes = self.attributes(value).ok_or(Fault::Value)?;
                self.write_object(json, attributes, depth, limit)?;
            }
            Value::Other => return Err(Fault::Value),
        }
        Ok(())
    }

    fn write_object(&self, json: &mut String, dict: usize, depth: usize, limit: usize) -> Result<(), Fault> {
        json.push('{');
        for (at, (key, value)) in self.dicts[dict].iter().enumerate() {
            let Value::Text(key) = key else { return Err(Fault::Value) };
            if at > 0 {
                json.push(',');
            }
            quote(json, key);
            json.push(':');
            self.write(json, *value, depth + 1, limit)?;
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

    #[test]
    fn nothing_but_data_is_built() {
        // os.system('true'), as a pickle would call it: an object of nothing, and no point.
        let call = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.";
        assert_eq!(read(call).unwrap().point().unwrap_err(), Fault::NoPoint);
        // INST, OBJ, EXT1 and others are refused.
        for instruction in [b'i', b'o', 0x82, b'P', b'Q', b'V', 0x97] {
            let pickle = [0x80, 4, b'(', instruction, b'.'];
            assert_eq!(read(&pickle).unwrap_err(), Fault::Instruction(instruction, 3));
        }
    }

    #[test]
    fn integers_keep_their_sign() {
        let id = |bytes: &[u8]| {
            let pickle = [b"\x80\x04", bytes, b"."].concat();
            match read(&pickle).unwrap().top {
                Value::Integer(number) => number,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(id(b"J\xfb\xff\xff\xff"), -5);
        assert_eq!(id(b"K\xfb"), 251);
        assert_eq!(id(b"\x8a\x09\x05\x00\x00\x00\x00\x00\x00\x80\x00"), (1 << 63) + 5);
        assert_eq!(id(b"\x8a\x01\xff"), -1);
    }

    #[test]
    fn what_is_repeated_or_contains_itself_has_an_end() {
        // A list in itself.
        let mut endless = b"\x80\x04c\n\n)\x81}(X\x02\0\0\0idK\x01X\x07\0\0\0payload]\x94h\0aub.".to_vec();
        let point = read(&endless).unwrap().point().unwrap();
        assert_eq!(point.payload, Err(Fault::TooLarge));
        // Lists of two of the last one, thirty times.
        endless = b"\x80\x04c\n\n)\x81}(X\x02\0\0\0idK\x01X\x07\0\0\0payload]\x94".to_vec();
        for level in 0..30_u8 {
            endless.extend([b'0', b'h', level, b'h', level, 0x86, 0x94]);
        }
        endless.extend(b"ub.");
        assert_eq!(read(&endless).unwrap().point().unwrap().payload, Err(Fault::TooLarge));
    }

    #[test]
    fn a_tuple_takes_nothing_from_below_a_mark() {
        // None, None, a mark, a tuple of two; and then of all that is above the mark.
        assert_eq!(read(b"NN(\x86t.").expect_err("it is malformed"), Fault::Malformed(3));
        assert!(read(b"NN(NN\x86t.").is_ok());
    }

    proptest! {
        #[test]
        fn no_input_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(pickle) = read(&bytes) {
                pickle.point().ok();
            }
        }

        #[test]
        fn no_sequence_of_instructions_breaks_it(steps in proptest::collection::vec(
            proptest::sample::select(b"(0N\x88K]))}aestu\x8f\x90\x94hRb\x81\x93\x85\x86.".to_vec()), 0..200)
        ) {
            if let Ok(pickle) = read(&steps) {
                pickle.point().ok();
            }
        }
    }
}
