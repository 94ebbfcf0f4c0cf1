//! The files of an index that hnswlib wrote: `header.bin`, `data_level0.bin`, `length.bin`, `link_lists.bin`.
//!
//! Vectors are read by position, one at a time. Numbers in these files are little-endian and trusted in nothing: each
//! position is checked against the file that it points into. The lists of links hold no vectors and are not opened.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::OFlags;

use super::MAX_DIMENSIONS;
use super::damage::{IndexDamage, PickleFault};
use super::pickle::{self, IndexMetadata, MAX_PICKLE_BYTES};

pub(crate) const HEADER_BYTES: usize = 100;

/// hnswlib marks a deleted element in the third byte of its links.
const DELETED: (u64, u8) = (2, 1);

/// What `header.bin` says of `data_level0.bin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Elements that were written.
    pub(crate) elements: u64,
    element_bytes: u64,
    label_offset: u64,
    vector_offset: u64,
}

impl Header {
    /// Reads a header and checks that an element's parts lie behind each other as hnswlib lays them.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < HEADER_BYTES {
            return Err(format!("it is cut off at {} of {HEADER_BYTES} bytes", bytes.len()));
        }
        let number = |at: usize| {
            let eight = bytes[at..at + 8].first_chunk::<8>().copied();
            u64::from_le_bytes(eight.expect("eight bytes were sliced"))
        };
        let version = bytes.first_chunk::<4>().map_or(0, |four| i32::from_le_bytes(*four));
        let header = Self {
            elements: number(20),
            element_bytes: number(28),
            label_offset: number(36),
            vector_offset: number(44),
        };
        let (start, capacity, links) = (number(4), number(12), number(68));
        if version != 1 {
            return Err(format!("it is of version {version} instead of 1"));
        }
        let fits = start == 0
            && header.elements <= capacity
            && links.checked_mul(4).and_then(|bytes| bytes.checked_add(4)) == Some(header.vector_offset)
            && header.label_offset.checked_add(8) == Some(header.element_bytes)
            && header.label_offset > header.vector_offset
            && (header.label_offset - header.vector_offset).is_multiple_of(4)
            && header.dimensions() <= MAX_DIMENSIONS as u64
            && header.element_bytes <= 1 << 24;
        if fits { Ok(header) } else { Err("its numbers do not fit each other".to_owned()) }
    }

    pub(crate) fn dimensions(&self) -> u64 {
        (self.label_offset - self.vector_offset) / 4
    }
}

/// Opens a file of an index. A directory is its owner's: what is no plain file could block for ever or be another's.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// An index that is open.
#[derive(Debug)]
pub(crate) struct Index {
    folder: PathBuf,
    segment: String,
    header: Header,
    data: File,
    lengths: Option<File>,
    /// Elements that are whole in the file.
    held: u64,
    buffer: Vec<u8>,
}

/// How a file was when it was opened.
pub(crate) type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The files that are read, in the order in which Chroma writes them.
const FILES: [&str; 4] = ["header.bin", "data_level0.bin", "length.bin", "index_metadata.pickle"];

/// What an index holds: its elements' numbers by id.
pub(crate) struct Contents {
    pub(crate) slots: HashMap<Rc<str>, u64>,
    /// Ids that have a label, but no element.
    pub(crate) without: Vec<Rc<str>>,
    /// The last write in it, where the index itself says so.
    pub(crate) max_seq_id: Option<u64>,
    /// What is damaged, though not everything is lost.
    pub(crate) damage: Option<IndexDamage>,
}

/// How the files are, to notice that Chroma writes them meanwhile.
pub(crate) fn stamps(folder: &Path) -> Vec<Stamp> {
    let stamp = |name: &&str| {
        let found = std::fs::metadata(folder.join(name)).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    FILES.iter().map(stamp).collect()
}

/// Whether an index was ever written. One that was not has its vectors in the queue.
pub(crate) fn is_written(folder: &Path) -> bool {
    folder.join("index_metadata.pickle").exists()
}

impl Index {
    /// Opens an index in the folder of its segment. `normalized`: whether vectors are stored as directions, and what
    /// they had as length beside them.
    pub(crate) fn open(
        folder: PathBuf,
        segment: &str,
        dimensions: Option<u64>,
        normalized: bool,
    ) -> Result<Self, IndexDamage> {
        let file = |name: &str| format!("{segment}/{name}");
        let unreadable = |name: &str| {
            let file = file(name);
            move |error| IndexDamage::Unreadable { file, error }
        };
        let mut bytes = Vec::new();
        open(&folder.join("header.bin"))
            .and_then(|opened| opened.take(HEADER_BYTES as u64).read_to_end(&mut bytes))
            .map_err(unreadable("header.bin"))?;
        let damaged = |why| IndexDamage::Header { file: file("header.bin"), why };
        let header = Header::parse(&bytes).map_err(damaged)?;
        if let Some(dimensions) = dimensions
            && dimensions != header.dimensions()
        {
            return Err(damaged(format!(
                "it says {} dimensions instead of {dimensions}",
                header.dimensions()
            )));
        }
        let data = open(&folder.join("data_level0.bin")).map_err(unreadable("data_level0.bin"))?;
        let size = data.metadata().map_err(unreadable("data_level0.bin"))?.len();
        let held = header.elements.min(size / header.element_bytes);
        // Without its lengths, a collection has its vectors' directions, which is all that cosine looks at.
        let lengths = if normalized { open(&folder.join("length.bin")).ok() } else { None };
        Ok(Self { folder, segment: segment.to_owned(), header, data, lengths, held, buffer: Vec::new() })
    }

    /// Finds the element of each id. `interrupted` is asked now and then.
    pub(crate) fn contents(&self, interrupted: fn() -> bool) -> Result<Option<Contents>, IndexDamage> {
        let IndexMetadata { max_seq_id, labels } = self.metadata()?;
        let mut elements = HashMap::with_capacity(usize::try_from(self.held).unwrap_or(0).min(labels.len()));
        for slot in 0..self.held {
            if slot.is_multiple_of(1 << 12) && interrupted() {
                return Ok(None);
            }
            if let Some(label) = self.label(slot).map_err(|error| self.unreadable(error))? {
                elements.insert(label, slot);
            }
        }
        let mut contents = Contents { slots: HashMap::new(), without: Vec::new(), max_seq_id, damage: None };
        for (id, label) in labels {
            match elements.get(&label) {
                Some(slot) => drop(contents.slots.insert(id, *slot)),
                None => contents.without.push(id),
            }
        }
        if self.held < self.header.elements {
            contents.damage = Some(IndexDamage::Data {
                file: format!("{}/data_level0.bin", self.segment),
                held: self.held,
                said: self.header.elements,
            });
        }
        Ok(Some(contents))
    }

    fn metadata(&self) -> Result<IndexMetadata, IndexDamage> {
        let name = format!("{}/index_metadata.pickle", self.segment);
        let read = || {
            let file = open(&self.folder.join("index_metadata.pickle")).map_err(PickleFault::Io)?;
            let size = file.metadata().map_err(PickleFault::Io)?.len();
            if size > MAX_PICKLE_BYTES {
                return Err(PickleFault::TooLarge(size));
            }
            pickle::read(&mut BufReader::new(file.take(MAX_PICKLE_BYTES)))
        };
        read().map_err(|fault| match fault {
            PickleFault::Io(error) => IndexDamage::Unreadable { file: name, error },
            fault => IndexDamage::Pickle { file: name, fault },
        })
    }

    fn unreadable(&self, error: io::Error) -> IndexDamage {
        IndexDamage::Unreadable { file: format!("{}/data_level0.bin", self.segment), error }
    }

    /// The label of an element that is not deleted.
    fn label(&self, slot: u64) -> io::Result<Option<u64>> {
        let start = slot * self.header.element_bytes;
        let mut links = [0; 4];
        self.data.read_exact_at(&mut links, start)?;
        if links[DELETED.0 as usize] & DELETED.1 != 0 {
            return Ok(None);
        }
        let mut label = [0; 8];
        self.data.read_exact_at(&mut label, start + self.header.label_offset)?;
        Ok(Some(u64::from_le_bytes(label)))
    }

    /// Reads the vector of an element.
    pub(crate) fn vector(&mut self, slot: u64, into: &mut Vec<f32>) -> Result<(), IndexDamage> {
        let bytes = (self.header.label_offset - self.header.vector_offset) as usize;
        self.buffer.resize(bytes, 0);
        let start = slot * self.header.element_bytes + self.header.vector_offset;
        self.data.read_exact_at(&mut self.buffer, start).map_err(|error| self.unreadable(error))?;
        let length = self.length(slot);
        into.clear();
        let (numbers, _) = self.buffer.as_chunks::<4>();
        into.extend(numbers.iter().map(|number| f32::from_le_bytes(*number) * length));
        if into.iter().all(|number| number.is_finite()) {
            Ok(())
        } else {
            Err(IndexDamage::NotFinite { file: format!("{}/data_level0.bin", self.segment) })
        }
    }

    /// What a vector had as length before it was normalized, so that it is again as it was added.
    fn length(&self, slot: u64) -> f32 {
        let mut bytes = [0; 4];
        let read = self.lengths.as_ref().map(|file| file.read_exact_at(&mut bytes, slot * 4));
        let length = f32::from_le_bytes(bytes);
        // Beyond this is nothing that was ever a vector's length.
        if matches!(read, Some(Ok(()))) && (1e-12..1e12).contains(&length) { length } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header as hnswlib writes it.
    fn header(elements: u64, dimensions: u64, links: u64) -> [u8; HEADER_BYTES] {
        let vector = links * 4 + 4;
        let label = vector + dimensions * 4;
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&1_i32.to_le_bytes());
        let numbers =
            [(12, elements * 2), (20, elements), (28, label + 8), (36, label), (44, vector), (68, links)];
        for (at, number) in numbers {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    proptest! {
        #[test]
        fn headers_tell_where_vectors_are(elements in 0..1_u64 << 40, dimensions in 1..16_000_u64, links in 1..500_u64) {
            let read = Header::parse(&header(elements, dimensions, links)).expect("a header");
            prop_assert_eq!((read.elements, read.dimensions()), (elements, dimensions));
        }

        #[test]
        fn a_header_that_is_taken_points_into_its_elements(
            changes in prop::collection::vec((0..HEADER_BYTES, any::<u8>()), 0..6),
        ) {
            let mut bytes = header(1_000, 384, 32);
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if let Ok(read) = Header::parse(&bytes) {
                prop_assert!((1..=MAX_DIMENSIONS as u64).contains(&read.dimensions()));
                prop_assert!(read.vector_offset >= 4);
                prop_assert!(read.vector_offset < read.label_offset);
                prop_assert_eq!(read.label_offset + 8, read.element_bytes);
            }
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if bytes.len() < HEADER_BYTES {
                prop_assert!(Header::parse(&bytes).is_err());
            }
            // Whatever comes of it.
            let _ = Header::parse(&bytes);
        }
    }
}
