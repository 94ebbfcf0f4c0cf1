//! `index_metadata.pickle`: which id has which label in the index.

use std::collections::HashMap;
use std::rc::Rc;

use crate::pickle::{self, Limits, PickleFault, Value};

/// A file beyond this is not read. A million ids take some 40 MB.
pub(crate) const MAX_PICKLE_BYTES: u64 = 1 << 30;
/// Some 2 GB at most, which is 12 million ids.
const MAX_VALUES: usize = 64 << 20;

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexMetadata {
    /// The last write that is in the index. Chroma 0.4 keeps it here, later ones in the database.
    pub(crate) max_seq_id: Option<u64>,
    /// The label of each id.
    pub(crate) labels: HashMap<Rc<str>, u64>,
}

/// Reads a whole pickle; none if it holds no labels of ids.
pub(crate) fn read(bytes: &[u8], interrupted: fn() -> bool) -> Result<Option<IndexMetadata>, PickleFault> {
    let pickle = pickle::read(bytes, Limits { values: MAX_VALUES, interrupted })?;
    let top = match pickle.top() {
        Value::Dict(number) => Some(number),
        object => pickle.attributes(object),
    };
    let Some(top) = top else { return Ok(None) };
    let Some(Value::Dict(labels)) = pickle.get(top, "id_to_label") else { return Ok(None) };
    let mut metadata = IndexMetadata::default();
    if let Some(Value::Integer(last)) = pickle.get(top, "max_seq_id") {
        metadata.max_seq_id = u64::try_from(last).ok();
    }
    for (at, entry) in pickle.dict(labels).iter().enumerate() {
        if at.is_multiple_of(1 << 16) && interrupted() {
            return Err(PickleFault::Interrupted);
        }
        let (Value::Text(id), Value::Integer(label)) = *entry else { return Ok(None) };
        let Ok(label) = u64::try_from(label) else { return Ok(None) };
        metadata.labels.insert(id.into(), label);
    }
    Ok(Some(metadata))
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

    fn read_bytes(bytes: &[u8]) -> Result<Option<IndexMetadata>, PickleFault> {
        read(bytes, || false)
    }

    fn some_labels() -> impl Strategy<Value = BTreeMap<String, u32>> {
        prop::collection::btree_map(any::<String>(), 0..u32::MAX / 2, 0..40)
    }

    proptest! {
        #[test]
        fn what_another_program_writes_is_read(
            max_seq_id in prop::option::of(0..u32::MAX / 2), labels in some_labels(),
        ) {
            let metadata = read_bytes(&written(max_seq_id, &labels)).expect("a pickle").expect("labels");
            prop_assert_eq!(metadata.max_seq_id, max_seq_id.map(u64::from));
            let read: BTreeMap<String, u32> =
                metadata.labels.iter().map(|(id, label)| (id.to_string(), *label as u32)).collect();
            prop_assert_eq!(read, labels);
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
        let metadata = read_bytes(&of_an_object()).expect("a pickle").expect("labels");
        assert_eq!(metadata.max_seq_id, Some(0x03_0201));
        let labels: BTreeMap<&str, u64> = metadata.labels.iter().map(|(id, label)| (&**id, *label)).collect();
        assert_eq!(labels, BTreeMap::from([("a", 9), ("PersistentData", 256)]));
    }

    #[test]
    fn what_holds_no_labels_is_none() {
        // None; a dict; an object of nothing; labels that are texts, negative, or of a number.
        for pickle in [
            &b"N."[..],
            b"}.",
            b"c\n\n)\x81.",
            b"}X\x0b\0\0\0id_to_label}X\x01\0\0\0aX\x01\0\0\0bss.",
            b"}X\x0b\0\0\0id_to_label}X\x01\0\0\0aJ\xff\xff\xff\xffss.",
            b"}X\x0b\0\0\0id_to_label}K\x01K\x01ss.",
        ] {
            assert_eq!(read_bytes(pickle).expect("a pickle"), None, "{pickle:?}");
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let mut deep = b"}".repeat(1_000_000);
        deep.extend(b"K\x01s.");
        assert_eq!(read_bytes(&deep).expect("a pickle"), None);
    }
}
