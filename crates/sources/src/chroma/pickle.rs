//! `index_metadata.pickle`: which id has which label in the index.
//!
//! A pickle is a program for a stack machine. Of its instructions those are carried out that Chroma's own pickles
//! are made of, and they do nothing but put data together; classes are never looked up, let alone called. What is
//! built lies in flat lists and is shared, not copied, so neither depth nor repeated references cost anything: a
//! hostile file takes at most some thirty times its own size. (General readers, `serde-pickle` for one, copy what is
//! referenced and recurse into what is nested.)

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::rc::Rc;

use super::damage::PickleFault;

/// A file beyond this is not read. A million ids take some 40 MB.
pub(crate) const MAX_PICKLE_BYTES: u64 = 1 << 30;

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexMetadata {
    /// The last write that is in the index. Chroma 0.4 keeps it here, later ones in the database.
    pub(crate) max_seq_id: Option<u64>,
    /// The label of each id.
    pub(crate) labels: HashMap<Rc<str>, u64>,
}

/// Reads a whole pickle.
pub(crate) fn read(input: &mut impl BufRead) -> Result<IndexMetadata, PickleFault> {
    let mut machine =
        Machine { input, at: 0, stack: Vec::new(), marks: Vec::new(), memo: Vec::new(), dicts: Vec::new() };
    let top = machine.run()?;
    machine.metadata(top)
}

#[derive(Debug, Clone)]
enum Value {
    None,
    Integer(i64),
    Text(Rc<str>),
    /// Its number in `Machine::dicts`.
    Dict(usize),
    /// An object, with the number of the dict of its attributes once that is known.
    Object(usize),
    /// A class, an empty tuple, a number that nobody asks for.
    Opaque,
}

#[derive(Debug, Default)]
struct Dict {
    entries: Vec<(Value, Value)>,
}

struct Machine<'a, R> {
    input: &'a mut R,
    at: u64,
    stack: Vec<Value>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    memo: Vec<Value>,
    dicts: Vec<Dict>,
}

impl<R: BufRead> Machine<'_, R> {
    fn run(&mut self) -> Result<Value, PickleFault> {
        loop {
            let at = self.at;
            let [instruction] = self.bytes()?;
            match instruction {
                0x80 => drop(self.bytes::<1>()?), // PROTO
                0x95 => drop(self.bytes::<8>()?), // FRAME
                b'.' => return self.pop(),        // STOP
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(Value::Opaque), // NEWTRUE, NEWFALSE
                b'K' => {
                    let [byte] = self.bytes()?;
                    self.stack.push(Value::Integer(byte.into()));
                }
                b'M' => {
                    let integer = u16::from_le_bytes(self.bytes()?);
                    self.stack.push(Value::Integer(integer.into()));
                }
                b'J' => {
                    let integer = i32::from_le_bytes(self.bytes()?);
                    self.stack.push(Value::Integer(integer.into()));
                }
                0x8a => self.long()?, // LONG1
                b'G' => {
                    self.bytes::<8>()?; // BINFLOAT
                    self.stack.push(Value::Opaque);
                }
                0x8c => {
                    let [length] = self.bytes()?; // SHORT_BINUNICODE
                    self.text(length.into())?;
                }
                b'X' => {
                    let length = u32::from_le_bytes(self.bytes()?); // BINUNICODE
                    self.text(length.into())?;
                }
                b'}' => {
                    self.stack.push(Value::Dict(self.dicts.len())); // EMPTY_DICT
                    self.dicts.push(Dict::default());
                }
                b')' => self.stack.push(Value::Opaque), // EMPTY_TUPLE
                b's' => {
                    let base = self.stack.len().checked_sub(2).ok_or_else(|| self.malformed(at))?; // SETITEM
                    self.set_items(base, at)?;
                }
                b'u' => {
                    let base = self.marks.pop().ok_or_else(|| self.malformed(at))?; // SETITEMS
                    self.set_items(base, at)?;
                }
                0x94 => self.remember(self.memo.len(), at)?, // MEMOIZE
                b'q' => {
                    let [index] = self.bytes()?; // BINPUT
                    self.remember(index.into(), at)?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.bytes()?); // LONG_BINPUT
                    self.remember(index as usize, at)?;
                }
                b'h' => {
                    let [index] = self.bytes()?; // BINGET
                    self.recall(index.into(), at)?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.bytes()?); // LONG_BINGET
                    self.recall(index as usize, at)?;
                }
                b'c' => {
                    self.line()?; // GLOBAL: module and name of a class
                    self.line()?;
                    self.stack.push(Value::Opaque);
                }
                0x93 => {
                    self.pop()?; // STACK_GLOBAL
                    self.pop()?;
                    self.stack.push(Value::Opaque);
                }
                0x81 => {
                    self.pop()?; // NEWOBJ
                    self.pop()?;
                    self.stack.push(Value::Object(self.dicts.len()));
                    self.dicts.push(Dict::default());
                }
                b'b' => self.build(at)?,
                other => return Err(PickleFault::Instruction { instruction: other, at }),
            }
        }
    }

    fn malformed(&self, at: u64) -> PickleFault {
        PickleFault::Malformed { at }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], PickleFault> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(PickleFault::from_io)?;
        self.at += N as u64;
        Ok(bytes)
    }

    /// A text of a length that the file claims: what is not there is not allocated.
    fn text(&mut self, length: u64) -> Result<(), PickleFault> {
        let at = self.at;
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(length).read_to_end(&mut bytes).map_err(PickleFault::from_io)?;
        self.at += read as u64;
        if read as u64 != length {
            return Err(PickleFault::Truncated);
        }
        let text = String::from_utf8(bytes).map_err(|_| PickleFault::Malformed { at })?;
        self.stack.push(Value::Text(text.into()));
        Ok(())
    }

    fn line(&mut self) -> Result<(), PickleFault> {
        let mut line = Vec::new();
        let read =
            self.input.by_ref().take(1 << 10).read_until(b'\n', &mut line).map_err(PickleFault::from_io)?;
        self.at += read as u64;
        if line.last() == Some(&b'\n') { Ok(()) } else { Err(PickleFault::Truncated) }
    }

    /// An integer of up to eight bytes; larger ones occur nowhere in what is looked at.
    fn long(&mut self) -> Result<(), PickleFault> {
        let [length] = self.bytes()?;
        let mut value: i64 = 0;
        for position in 0..u32::from(length) {
            let [byte] = self.bytes()?;
            if position < 8 {
                value |= i64::from(byte) << (8 * position);
            }
            if position + 1 == u32::from(length) && position < 7 && byte & 0x80 != 0 {
                value |= -1 << (8 * (position + 1));
            }
        }
        self.stack.push(if length <= 8 { Value::Integer(value) } else { Value::Opaque });
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, PickleFault> {
        let at = self.at;
        self.stack.pop().ok_or_else(|| self.malformed(at))
    }

    /// Moves what lies above `base` into the dict below it, in pairs.
    fn set_items(&mut self, base: usize, at: u64) -> Result<(), PickleFault> {
        if base > self.stack.len() || !(self.stack.len() - base).is_multiple_of(2) {
            return Err(self.malformed(at));
        }
        let dict = match base.checked_sub(1).and_then(|below| self.stack.get(below)) {
            Some(Value::Dict(dict)) => *dict,
            _ => return Err(self.malformed(at)),
        };
        let entries = &mut self.dicts[dict].entries;
        let mut items = self.stack.drain(base..);
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            entries.push((key, value));
        }
        Ok(())
    }

    /// Gives the object on the stack its attributes.
    fn build(&mut self, at: u64) -> Result<(), PickleFault> {
        let state = self.pop()?;
        match (state, self.stack.last_mut()) {
            (Value::Dict(attributes), Some(Value::Object(own))) => {
                *own = attributes;
                Ok(())
            }
            _ => Err(self.malformed(at)),
        }
    }

    fn remember(&mut self, index: usize, at: u64) -> Result<(), PickleFault> {
        let top = self.stack.last().cloned().ok_or_else(|| self.malformed(at))?;
        // Writers number what they remember without gaps.
        match index.cmp(&self.memo.len()) {
            std::cmp::Ordering::Less => self.memo[index] = top,
            std::cmp::Ordering::Equal => self.memo.push(top),
            std::cmp::Ordering::Greater => return Err(self.malformed(at)),
        }
        Ok(())
    }

    fn recall(&mut self, index: usize, at: u64) -> Result<(), PickleFault> {
        let value = self.memo.get(index).cloned().ok_or_else(|| self.malformed(at))?;
        self.stack.push(value);
        Ok(())
    }

    fn metadata(&self, top: Value) -> Result<IndexMetadata, PickleFault> {
        let (Value::Dict(top) | Value::Object(top)) = top else { return Err(PickleFault::NoLabels) };
        let attribute = |name: &str| {
            let named = |(key, _): &&(Value, Value)| matches!(key, Value::Text(key) if **key == *name);
            self.dicts[top].entries.iter().rev().find(named).map(|(_, value)| value)
        };
        let Some(Value::Dict(labels)) = attribute("id_to_label") else { return Err(PickleFault::NoLabels) };
        let mut metadata = IndexMetadata::default();
        if let Some(Value::Integer(last)) = attribute("max_seq_id") {
            metadata.max_seq_id = u64::try_from(*last).ok();
        }
        for entry in &self.dicts[*labels].entries {
            let (Value::Text(id), Value::Integer(label)) = entry else { return Err(PickleFault::NoLabels) };
            let label = u64::try_from(*label).map_err(|_| PickleFault::NoLabels)?;
            metadata.labels.insert(Rc::clone(id), label);
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    struct Written {
        dimensionality: Option<u32>,
        max_seq_id: Option<u32>,
        id_to_label: BTreeMap<String, u32>,
        label_to_id: BTreeMap<u32, String>,
    }

    fn written(max_seq_id: Option<u32>, labels: &BTreeMap<String, u32>) -> Vec<u8> {
        let label_to_id = labels.iter().map(|(id, label)| (*label, id.clone())).collect();
        let whole = Written { dimensionality: Some(3), max_seq_id, id_to_label: labels.clone(), label_to_id };
        serde_pickle::to_vec(&whole, serde_pickle::SerOptions::new()).expect("it can be written")
    }

    fn read_bytes(mut bytes: &[u8]) -> Result<IndexMetadata, PickleFault> {
        read(&mut bytes)
    }

    fn some_labels() -> impl Strategy<Value = BTreeMap<String, u32>> {
        prop::collection::btree_map(any::<String>(), 0..u32::MAX / 2, 0..40)
    }

    proptest! {
        #[test]
        fn what_another_program_writes_is_read(
            max_seq_id in prop::option::of(0..u32::MAX / 2), labels in some_labels(),
        ) {
            let metadata = read_bytes(&written(max_seq_id, &labels)).expect("labels");
            prop_assert_eq!(metadata.max_seq_id, max_seq_id.map(u64::from));
            let read: BTreeMap<String, u32> =
                metadata.labels.iter().map(|(id, label)| (id.to_string(), *label as u32)).collect();
            prop_assert_eq!(read, labels);
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            // Whatever comes of it.
            let _ = read_bytes(&bytes);
        }

        #[test]
        fn no_change_of_bytes_breaks_the_reader(
            labels in some_labels(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = written(Some(7), &labels);
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            let _ = read_bytes(&bytes);
            prop_assert!(read_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }

    /// As Chroma up to 0.6 writes it: an object of a class, whose strings are remembered.
    fn of_an_object() -> Vec<u8> {
        let mut bytes = vec![0x80, 5, 0x95, 0, 0, 0, 0, 0, 0, 0, 0];
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend([0x8c, text.len() as u8]);
            bytes.extend(text.as_bytes());
            bytes.push(0x94);
        };
        text(&mut bytes, "chromadb.segment");
        text(&mut bytes, "PersistentData");
        bytes.extend([0x93, 0x94, b')', 0x81, 0x94, b'}', 0x94, b'(']);
        text(&mut bytes, "max_seq_id");
        bytes.extend([0x8a, 3, 1, 2, 3]);
        text(&mut bytes, "id_to_label");
        bytes.extend([b'}', 0x94, b'(']);
        text(&mut bytes, "a");
        bytes.extend([b'K', 9]);
        bytes.extend([b'h', 1, b'M', 0, 1]); // the second text again, as an id
        bytes.extend([b'u', b'u', b'b', b'.']);
        bytes
    }

    #[test]
    fn objects_are_read_as_their_attributes() {
        let metadata = read_bytes(&of_an_object()).expect("labels");
        assert_eq!(metadata.max_seq_id, Some(0x03_0201));
        let labels: BTreeMap<&str, u64> = metadata.labels.iter().map(|(id, label)| (&**id, *label)).collect();
        assert_eq!(labels, BTreeMap::from([("a", 9), ("PersistentData", 256)]));
    }

    #[test]
    fn what_calls_or_copies_is_refused() {
        // REDUCE, DUP, INST, PERSID, EXT1, TUPLE2, LIST: instructions of programs and bombs.
        for instruction in [b'R', b'2', b'i', b'P', 0x82, 0x86, b'l'] {
            let fault = read_bytes(&[0x80, 3, instruction, b'.']).expect_err("it is not carried out");
            assert!(matches!(fault, PickleFault::Instruction { at: 2, .. }), "{fault}");
        }
    }

    #[test]
    fn depth_and_claims_of_size_cost_nothing() {
        let mut deep = b"}".repeat(1_000_000);
        deep.extend(b"K\x01s.");
        assert!(read_bytes(&deep).is_err());
        let fault = read_bytes(b"X\xff\xff\xff\xffabc").expect_err("it is not there");
        assert!(matches!(fault, PickleFault::Truncated), "{fault}");
        let fault = read_bytes(b"Nr\xff\xff\xff\x7f.").expect_err("nobody remembers that many");
        assert!(matches!(fault, PickleFault::Malformed { .. }), "{fault}");
    }
}
