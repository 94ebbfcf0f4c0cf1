//! Python's pickles, read as data.
//!
//! A pickle is a program for a stack machine. Of its instructions those are carried out that put data together;
//! classes are never looked up, nothing is called. What is built lies in flat lists and is referred to by number, so
//! neither depth nor repeated references cost anything, and how much is built has a limit. (General readers,
//! `serde-pickle` for one, copy what is referenced and recurse into what is nested.)

use thiserror::Error;

/// Why a pickle is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PickleFault {
    /// It ends in the middle.
    #[error("the pickle is cut off")]
    Truncated,
    /// An instruction at this byte does not fit what is before it.
    #[error("the pickle is malformed at byte {0}")]
    Malformed(usize),
    /// An instruction that does not build data, and its place.
    #[error("the pickle has instruction {0:#04x} at byte {1}, which is none that builds data")]
    Instruction(u8, usize),
    /// It builds more than is kept in memory.
    #[error("the pickle holds too many values")]
    TooMany,
    /// [`Host::interrupted`](crate::Host::interrupted) said so.
    #[error("interrupted")]
    Interrupted,
}

/// How much a reader lets a pickle cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Values that it builds, of some 32 bytes each.
    pub(crate) values: usize,
    /// Asked now and then.
    pub(crate) interrupted: fn() -> bool,
}

/// Instructions between two looks at whether to give up.
const STEPS_BETWEEN_LOOKS: u32 = 1 << 16;
/// What a list or dict costs beside its values, as values.
const CONTAINER: usize = 8;
/// Bytes of an integer. Python writes larger ones, but none that has a meaning to those who read here.
const MAX_INTEGER: usize = 16;

/// A value that was pickled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    None,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(&'a str),
    /// The number of a [`Pickle::list`], also of tuples.
    List(usize),
    /// The number of a [`Pickle::dict`].
    Dict(usize),
    /// An object, with its number; [`Pickle::attributes`] has what it is made of.
    Object(usize),
    /// Something that nobody asks for: a class, bytes, a set.
    Other,
}

#[derive(Debug, Default)]
struct Dict<'a> {
    entries: Vec<(Value<'a>, Value<'a>)>,
    /// The dict under `__dict__`, where Python keeps the attributes of a pydantic model.
    inner: Option<usize>,
}

/// What a pickle says.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    lists: Vec<Vec<Value<'a>>>,
    dicts: Vec<Dict<'a>>,
    /// What each object is made of.
    objects: Vec<Value<'a>>,
    top: Value<'a>,
}

/// Reads a whole pickle.
pub(crate) fn read(bytes: &[u8], limits: Limits) -> Result<Pickle<'_>, PickleFault> {
    let built = Pickle { lists: Vec::new(), dicts: Vec::new(), objects: Vec::new(), top: Value::None };
    let machine = Machine {
        bytes,
        at: 0,
        left: limits.values,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        built,
    };
    machine.run(limits.interrupted)
}

impl<'a> Pickle<'a> {
    /// The value that was pickled.
    pub(crate) fn top(&self) -> Value<'a> {
        self.top
    }

    pub(crate) fn list(&self, number: usize) -> &[Value<'a>] {
        &self.lists[number]
    }

    pub(crate) fn dict(&self, number: usize) -> &[(Value<'a>, Value<'a>)] {
        &self.dicts[number].entries
    }

    /// The dict of an object's attributes: of a pydantic model, or as Python keeps them.
    pub(crate) fn attributes(&self, object: Value<'a>) -> Option<usize> {
        let Value::Object(number) = object else { return None };
        let Value::Dict(state) = self.objects[number] else { return None };
        Some(self.dicts[state].inner.unwrap_or(state))
    }

    /// The value under a key, the last one that was set.
    pub(crate) fn get(&self, dict: usize, name: &str) -> Option<Value<'a>> {
        let named = |(key, _): &&(Value<'a>, Value<'a>)| matches!(key, Value::Text(key) if *key == name);
        self.dict(dict).iter().rev().find(named).map(|(_, value)| *value)
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Values that may still be built.
    left: usize,
    stack: Vec<Value<'a>>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: Vec<Value<'a>>,
    built: Pickle<'a>,
}

impl<'a> Machine<'a> {
    fn run(mut self, interrupted: fn() -> bool) -> Result<Pickle<'a>, PickleFault> {
        let mut steps: u32 = 0;
        loop {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(STEPS_BETWEEN_LOOKS) && interrupted() {
                return Err(PickleFault::Interrupted);
            }
            let at = self.at;
            let [instruction] = self.array()?;
            match instruction {
                b'.' => {
                    self.built.top = self.pop()?; // STOP
                    return Ok(self.built);
                }
                0x80 => drop(self.take(1)?), // PROTO
                0x95 => drop(self.take(8)?), // FRAME
                b'(' => {
                    self.spend(1)?; // MARK
                    self.marks.push(self.stack.len());
                }
                b'0' => drop(self.pop()?), // POP
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Boolean(true))?,
                0x89 => self.push(Value::Boolean(false))?,
                b'K' => self.integer(1, false)?,
                b'M' => self.integer(2, false)?,
                b'J' => self.integer(4, true)?,
                0x8a => {
                    let length = self.length(1)?; // LONG1
                    self.integer(length, true)?;
                }
                b'G' => {
                    let number = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(number))?;
                }
                0x8c => self.text(1)?,         // SHORT_BINUNICODE
                b'X' => self.text(4)?,         // BINUNICODE
                0x8d => self.text(8)?,         // BINUNICODE8
                b'C' => self.other(1)?,        // SHORT_BINBYTES
                b'B' => self.other(4)?,        // BINBYTES
                0x8e | 0x96 => self.other(8)?, // BINBYTES8, BYTEARRAY8
                b'c' => {
                    self.line()?; // GLOBAL: module and name of a class
                    self.line()?;
                    self.push(Value::Other)?;
                }
                0x93 => {
                    self.pop()?; // STACK_GLOBAL
                    self.pop()?;
                    self.push(Value::Other)?;
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
                other => self.collect(other, at)?,
            }
        }
    }

    /// Instructions that put values together.
    fn collect(&mut self, instruction: u8, at: usize) -> Result<(), PickleFault> {
        match instruction {
            b']' | b')' => self.make_list(Vec::new()), // EMPTY_LIST, EMPTY_TUPLE
            0x85..=0x87 => {
                let count = usize::from(instruction - 0x84); // TUPLE1 to TUPLE3
                // What lies below a mark belongs to what is built there.
                let least = self.marks.last().copied().unwrap_or_default();
                let base = self.stack.len().checked_sub(count).filter(|base| *base >= least);
                let items = self.stack.split_off(base.ok_or(PickleFault::Malformed(at))?);
                self.make_list(items)
            }
            b't' => {
                let items = self.since_mark()?; // TUPLE
                self.make_list(items)
            }
            b'a' => {
                let item = self.pop()?; // APPEND
                self.append(&[item], at)
            }
            b'e' => {
                let items = self.since_mark()?; // APPENDS
                self.append(&items, at)
            }
            b'}' => {
                self.spend(CONTAINER)?; // EMPTY_DICT
                self.built.dicts.push(Dict::default());
                self.push(Value::Dict(self.built.dicts.len() - 1))
            }
            b's' => {
                let value = self.pop()?; // SETITEM
                let key = self.pop()?;
                self.set_items(&[key, value], at)
            }
            b'u' => {
                let items = self.since_mark()?; // SETITEMS
                self.set_items(&items, at)
            }
            0x8f => self.push(Value::Other),     // EMPTY_SET
            0x90 => self.since_mark().map(drop), // ADDITEMS, to a set that nobody looks at
            0x91 => {
                self.since_mark()?; // FROZENSET
                self.push(Value::Other)
            }
            0x81 | b'R' => {
                self.pop()?; // NEWOBJ, REDUCE: nothing is made or called
                self.pop()?;
                self.spend(1)?;
                self.built.objects.push(Value::None);
                self.push(Value::Object(self.built.objects.len() - 1))
            }
            b'b' => {
                let state = self.pop()?; // BUILD
                match self.stack.last() {
                    Some(Value::Object(number)) => self.built.objects[*number] = state,
                    _ => return Err(PickleFault::Malformed(at)),
                }
                Ok(())
            }
            other => Err(PickleFault::Instruction(other, at)),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleFault> {
        let end = self.at.checked_add(count).ok_or(PickleFault::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(PickleFault::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleFault> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many bytes as were taken"))
    }

    /// A length or index in so many bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, PickleFault> {
        let number = self.take(bytes)?.iter().rev().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        usize::try_from(number).map_err(|_| PickleFault::Truncated)
    }

    fn integer(&mut self, bytes: usize, signed: bool) -> Result<(), PickleFault> {
        let taken = self.take(bytes)?;
        self.push(if bytes > MAX_INTEGER {
            Value::Other
        } else {
            let negative = signed && taken.last().is_some_and(|byte| byte & 0x80 != 0);
            let start = if negative { -1 } else { 0 };
            Value::Integer(taken.iter().rev().fold(start, |sum: i128, byte| sum << 8 | i128::from(*byte)))
        })
    }

    fn text(&mut self, bytes: usize) -> Result<(), PickleFault> {
        let at = self.at;
        let length = self.length(bytes)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| PickleFault::Malformed(at))?;
        self.push(Value::Text(text))
    }

    fn other(&mut self, bytes: usize) -> Result<(), PickleFault> {
        let length = self.length(bytes)?;
        self.take(length)?;
        self.push(Value::Other)
    }

    fn line(&mut self) -> Result<(), PickleFault> {
        let length = self.bytes[self.at..].iter().position(|byte| *byte == b'\n');
        self.at += length.ok_or(PickleFault::Truncated)? + 1;
        Ok(())
    }

    fn spend(&mut self, values: usize) -> Result<(), PickleFault> {
        self.left = self.left.checked_sub(values).ok_or(PickleFault::TooMany)?;
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), PickleFault> {
        self.spend(1)?;
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value<'a>, PickleFault> {
        // What lies below a mark belongs to what is built there.
        let at = self.at - 1;
        if self.marks.last().is_some_and(|mark| *mark >= self.stack.len()) {
            return Err(PickleFault::Malformed(at));
        }
        self.stack.pop().ok_or(PickleFault::Malformed(at))
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>, PickleFault> {
        let base = self.marks.pop().ok_or(PickleFault::Malformed(self.at - 1))?;
        Ok(self.stack.split_off(base))
    }

    fn make_list(&mut self, items: Vec<Value<'a>>) -> Result<(), PickleFault> {
        self.spend(CONTAINER)?;
        self.built.lists.push(items);
        self.push(Value::List(self.built.lists.len() - 1))
    }

    fn append(&mut self, items: &[Value<'a>], at: usize) -> Result<(), PickleFault> {
        match self.stack.last() {
            Some(Value::List(number)) => {
                self.built.lists[*number].extend(items);
                Ok(())
            }
            _ => Err(PickleFault::Malformed(at)),
        }
    }

    fn set_items(&mut self, items: &[Value<'a>], at: usize) -> Result<(), PickleFault> {
        let (Some(Value::Dict(number)), (pairs, [])) = (self.stack.last(), items.as_chunks::<2>()) else {
            return Err(PickleFault::Malformed(at));
        };
        let dict = &mut self.built.dicts[*number];
        for [key, value] in pairs {
            dict.entries.push((*key, *value));
            if matches!(key, Value::Text("__dict__")) {
                dict.inner = if let Value::Dict(inner) = value { Some(*inner) } else { None };
            }
        }
        Ok(())
    }

    fn remember(&mut self, index: usize, at: usize) -> Result<(), PickleFault> {
        let top = *self.stack.last().ok_or(PickleFault::Malformed(at))?;
        // Writers number what they remember without gaps.
        match index.cmp(&self.memo.len()) {
            std::cmp::Ordering::Less => self.memo[index] = top,
            std::cmp::Ordering::Equal => {
                self.spend(1)?;
                self.memo.push(top);
            }
            std::cmp::Ordering::Greater => return Err(PickleFault::Malformed(at)),
        }
        Ok(())
    }

    fn recall(&mut self, index: usize, at: usize) -> Result<(), PickleFault> {
        let value = *self.memo.get(index).ok_or(PickleFault::Malformed(at))?;
        self.push(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { values: 1 << 20, interrupted: || false };

    fn read_all(bytes: &[u8]) -> Result<Pickle<'_>, PickleFault> {
        read(bytes, LIMITS)
    }

    #[test]
    fn nothing_but_data_is_built() {
        // os.system('true'), as a pickle would call it: an object of nothing.
        let call = read_all(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.").expect("data");
        assert!(matches!(call.top(), Value::Object(0)) && call.attributes(call.top()).is_none());
        // DUP, INST, OBJ, EXT1, LIST and others are refused.
        for instruction in [b'2', b'i', b'o', 0x82, b'l', b'P', b'Q', b'V', 0x97] {
            let pickle = [0x80, 4, b'(', instruction, b'.'];
            assert_eq!(read_all(&pickle).expect_err("it is none"), PickleFault::Instruction(instruction, 3));
        }
    }

    #[test]
    fn integers_keep_their_sign() {
        let id = |bytes: &[u8]| match read_all(&[bytes, b"."].concat()).expect("a value").top() {
            Value::Integer(number) => number,
            other => panic!("{other:?}"),
        };
        assert_eq!(id(b"J\xfb\xff\xff\xff"), -5);
        assert_eq!(id(b"K\xfb"), 251);
        assert_eq!(id(b"\x8a\x09\x05\x00\x00\x00\x00\x00\x00\x80\x00"), (1 << 63) + 5);
        assert_eq!(id(b"\x8a\x01\xff"), -1);
    }

    #[test]
    fn a_tuple_takes_nothing_from_below_a_mark() {
        // None, None, a mark, a tuple of two; and then of all that is above the mark.
        assert_eq!(read_all(b"NN(\x86t.").expect_err("it is malformed"), PickleFault::Malformed(3));
        assert!(read_all(b"NN(NN\x86t.").is_ok());
    }

    #[test]
    fn claims_of_size_cost_nothing() {
        assert_eq!(read_all(b"X\xff\xff\xff\xffabc").expect_err("it is not there"), PickleFault::Truncated);
        let huge = b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc";
        assert_eq!(read_all(huge).expect_err("it is not there"), PickleFault::Truncated);
        let fault = read_all(b"Nr\xff\xff\xff\x7f.").expect_err("nobody remembers that many");
        assert_eq!(fault, PickleFault::Malformed(1));
    }

    #[test]
    fn what_is_built_has_a_limit() {
        // Empty tuples, dicts of one entry, marks, nulls, references, remembered again and again.
        for part in
            [&b")"[..], b"}K\x00K\x00s", b"(", b"N", b"N\x94h\x00", b"N\x94", b"c\n\nc\n\n\x81", b"]Na"]
        {
            let pickle = part.repeat(2 << 20);
            assert_eq!(read_all(&pickle).expect_err("it is too much"), PickleFault::TooMany, "{part:?}");
        }
        // What is taken away again costs, too: time.
        assert_eq!(read_all(&b"N0".repeat(2 << 20)).expect_err("it is too much"), PickleFault::TooMany);
        let limits = |values| Limits { values, ..LIMITS };
        assert!(read(b"].", limits(CONTAINER + 1)).is_ok());
        assert_eq!(read(b"].", limits(CONTAINER)).expect_err("it is too much"), PickleFault::TooMany);
    }

    #[test]
    fn reading_can_be_interrupted() {
        let limits = Limits { values: 8 << 20, interrupted: || true };
        assert_eq!(read(&b"N".repeat(1 << 20), limits).expect_err("it is"), PickleFault::Interrupted);
        // Also where nothing is built.
        assert_eq!(read(&b"\x80\x04".repeat(1 << 20), limits).expect_err("it is"), PickleFault::Interrupted);
    }

    #[test]
    fn attributes_are_those_of_the_model_or_of_the_state() {
        // An object whose state has a member `__dict__`, and one whose state has none.
        let model = read_all(b"c\n\n)\x81}(X\x08\0\0\0__dict__}X\x01\0\0\0aK\x01sub.").expect("an object");
        let attributes = model.attributes(model.top()).expect("attributes");
        assert!(matches!(model.get(attributes, "a"), Some(Value::Integer(1))));
        let plain = read_all(b"c\n\n)\x81}(X\x01\0\0\0aK\x01X\x01\0\0\0aK\x02ub.").expect("an object");
        let attributes = plain.attributes(plain.top()).expect("attributes");
        assert!(matches!(plain.get(attributes, "a"), Some(Value::Integer(2))), "the last one counts");
    }

    proptest! {
        #[test]
        fn no_input_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            // Whatever comes of it.
            let _ = read_all(&bytes);
        }
    }
}
