//! The files of an index that hnswlib wrote: `header.bin`, `data_level0.bin`, `length.bin`, `link_lists.bin`.
//!
//! Vectors are read by position, one at a time. Numbers in these files are little-endian and trusted in nothing: each
//! position is checked against the file that it points into. The lists of links hold no vectors and are not opened.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::OFlags;

use super::damage::IndexDamage;
use super::labels::{self, IndexMetadata, MAX_PICKLE_BYTES};
use crate::error::Error;
use crate::pickle::PickleFault;
use crate::value::MAX_DIMENSIONS;

pub(crate) const HEADER_BYTES: usize = 100;

/// What is read of a file between two looks at whether to give up.
const CHUNK_BYTES: u64 = 1 << 20;

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

/// Why an index, or a part of it, is not read.
#[derive(Debug)]
pub(crate) enum Fault {
    Damaged(IndexDamage),
    /// It may well be whole.
    Fatal(Error),
}

impl From<IndexDamage> for Fault {
    fn from(damage: IndexDamage) -> Self {
        Self::Damaged(damage)
    }
}

/// The files of an index.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    /// The folder's name.
    segment: String,
}

impl Files {
    /// A file's name in messages about damage.
    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.segment)
    }

    fn open(&self, name: &str) -> Result<File, Fault> {
        open(&self.folder.join(name)).map_err(|error| self.fault(name, error))
    }

    /// What the system's error means: damage, if the file is not there or ends too early. Whatever else is in the way,
    /// what is in the file may be whole.
    fn fault(&self, name: &str, error: io::Error) -> Fault {
        let error = match error.kind() {
            io::ErrorKind::NotFound => error,
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it is cut off"),
            _ => return Fault::Fatal(Error::open(WHAT, &self.folder.join(name), &error)),
        };
        Fault::Damaged(IndexDamage::Unreadable { file: self.name(name), error })
    }
}

/// An index that is open.
#[derive(Debug)]
pub(crate) struct Index {
    files: Files,
    header: Header,
    data: File,
    /// Whether vectors are stored as directions.
    normalized: bool,
    /// What they had as length, if that file is there.
    lengths: Option<File>,
    /// Elements that are whole in the file.
    held: u64,
    buffer: Vec<u8>,
}

/// How a file was when it was opened.
pub(crate) type Stamp = Option<(u64, u64, u64, i64, i64)>;

const WHAT: &str = "index of Chroma";
const HEADER: &str = "header.bin";
const DATA: &str = "data_level0.bin";
const LENGTHS: &str = "length.bin";
const PICKLE: &str = "index_metadata.pickle";
/// The files that are read, in the order in which Chroma writes them.
const FILES: [&str; 4] = [HEADER, DATA, LENGTHS, PICKLE];

/// What an index holds: its elements' numbers by id.
pub(crate) struct Contents {
    pub(crate) slots: HashMap<Rc<str>, u64>,
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
pub(crate) fn is_written(folder: &Path) -> Result<bool, Error> {
    let path = folder.join(PICKLE);
    path.try_exists().map_err(|error| Error::open(WHAT, &path, &error))
}

/// Whether a folder is there.
pub(crate) fn is_there(folder: &Path) -> Result<bool, Error> {
    match std::fs::metadata(folder) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::open(WHAT, folder, &error)),
    }
}

impl Index {
    /// Opens an index in the folder of its segment. `normalized`: whether vectors are stored as directions, and what
    /// they had as length beside them.
    pub(crate) fn open(
        folder: PathBuf,
        segment: &str,
        dimensions: Option<u64>,
        normalized: bool,
    ) -> Result<Self, Fault> {
        let files = Files { folder, segment: segment.to_owned() };
        let mut bytes = Vec::new();
        let read = files.open(HEADER)?.take(HEADER_BYTES as u64).read_to_end(&mut bytes);
        read.map_err(|error| files.fault(HEADER, error))?;
        let damaged = |why| IndexDamage::Header { file: files.name(HEADER), why };
        let header = Header::parse(&bytes).map_err(damaged)?;
        if let Some(dimensions) = dimensions.filter(|dimensions| *dimensions != header.dimensions()) {
            let found = header.dimensions();
            return Err(damaged(format!("it says {found} dimensions instead of {dimensions}")).into());
        }
        let data = files.open(DATA)?;
        let size = data.metadata().map_err(|error| files.fault(DATA, error))?.len();
        let held = header.elements.min(size / header.element_bytes);
        let lengths = match normalized.then(|| files.open(LENGTHS)).transpose() {
            Err(Fault::Damaged(_)) => None,
            lengths => lengths?,
        };
        Ok(Self { files, header, data, normalized, lengths, held, buffer: Vec::new() })
    }

    /// Finds the element of each id. `interrupted` is asked now and then.
    pub(crate) fn contents(&self, interrupted: fn() -> bool) -> Result<Contents, Fault> {
        let IndexMetadata { max_seq_id, labels } = self.metadata(interrupted)?;
        let mut elements = HashMap::with_capacity(usize::try_from(self.held).unwrap_or(0).min(labels.len()));
        for slot in 0..self.held {
            if slot.is_multiple_of(1 << 12) && interrupted() {
                return Err(Fault::Fatal(Error::Interrupted));
            }
            if let Some(label) = self.label(slot).map_err(|error| self.files.fault(DATA, error))? {
                elements.insert(label, slot);
            }
        }
        let slots = labels.into_iter().filter_map(|(id, label)| Some((id, *elements.get(&label)?)));
        let mut contents = Contents { slots: slots.collect(), max_seq_id, damage: None };
        if self.held < self.header.elements {
            let (held, said) = (self.held, self.header.elements);
            contents.damage = Some(IndexDamage::Data { file: self.files.name(DATA), held, said });
        }
        Ok(contents)
    }

    fn metadata(&self, interrupted: fn() -> bool) -> Result<IndexMetadata, Fault> {
        let failed = |error| self.files.fault(PICKLE, error);
        let file = self.files.open(PICKLE)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes > MAX_PICKLE_BYTES {
            return Err(IndexDamage::TooLarge { file: self.files.name(PICKLE), bytes }.into());
        }
        let (mut file, mut pickle) = (file.take(MAX_PICKLE_BYTES), Vec::new());
        while file.by_ref().take(CHUNK_BYTES).read_to_end(&mut pickle).map_err(failed)? > 0 {
            if interrupted() {
                return Err(Fault::Fatal(Error::Interrupted));
            }
        }
        match labels::read(&pickle, interrupted) {
            Ok(Some(metadata)) => Ok(metadata),
            Ok(None) => Err(IndexDamage::NoLabels { file: self.files.name(PICKLE) }.into()),
            Err(PickleFault::Interrupted) => Err(Fault::Fatal(Error::Interrupted)),
            Err(fault) => Err(IndexDamage::Pickle { file: self.files.name(PICKLE), fault }.into()),
        }
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

    /// Reads the vector of an element. Where its length is lost, which is all that the damage is of that is returned, it
    /// has length 1: it is as near to all others by cosine.
    pub(crate) fn vector(&mut self, slot: u64, into: &mut Vec<f32>) -> Result<Option<IndexDamage>, Fault> {
        let bytes = (self.header.label_offset - self.header.vector_offset) as usize;
        self.buffer.resize(bytes, 0);
        let start = slot * self.header.element_bytes + self.header.vector_offset;
        self.data.read_exact_at(&mut self.buffer, start).map_err(|error| self.files.fault(DATA, error))?;
        let (length, lost) = match self.length(slot) {
            Ok(length) => (length, None),
            Err(Fault::Damaged(damage)) => (1.0, Some(damage)),
            Err(fatal) => return Err(fatal),
        };
        into.clear();
        let (numbers, _) = self.buffer.as_chunks::<4>();
        into.extend(numbers.iter().map(|number| f32::from_le_bytes(*number) * length));
        if !into.iter().all(|number| number.is_finite()) {
            return Err(IndexDamage::NotFinite { file: self.files.name(DATA) }.into());
        }
        // Zeros are as they were.
        Ok(lost.filter(|_| into.iter().any(|number| *number != 0.0)))
    }

    /// What a vector had as length before it was normalized, so that it is again as it was added.
    fn length(&self, slot: u64) -> Result<f32, Fault> {
        if !self.normalized {
            return Ok(1.0);
        }
        let mut bytes = [0; 4];
        let read = match &self.lengths {
            Some(file) => file.read_exact_at(&mut bytes, slot * 4),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        read.map_err(|error| self.files.fault(LENGTHS, error))?;
        let length = f32::from_le_bytes(bytes);
        // Beyond this is nothing that was ever a vector's length.
        if (1e-12..1e12).contains(&length) {
            Ok(length)
        } else {
            Err(IndexDamage::Length { file: self.files.name(LENGTHS) }.into())
        }
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
