//! Where the vector of each id is: in the index, in the queue of writes, or nowhere.
//!
//! 1. A queue that was never purged is replayed from its first write: it has all vectors as they were added.
//! 2. Otherwise the index is what it holds, and the queue is replayed from the last write that the index has.
//! 3. A row that has no vector then has the last one that the queue has of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, Statement};

use super::catalog::Collection;
use super::damage::IndexDamage;
use super::hnsw::{self, Fault, Index, Stamp};
use super::store::Store;
use crate::error::Error;

/// Where a vector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The number of an element of the index.
    Index(u64),
    /// The number of a write.
    Queue(i64),
}

/// Where all vectors of a collection are.
#[derive(Debug)]
pub(crate) struct Vectors {
    places: HashMap<Rc<str>, Place>,
    index: Option<Index>,
    /// The folder of the index, and how its files were before anything was read from them.
    files: Option<(PathBuf, Vec<Stamp>)>,
    /// Why vectors are missing, if some are.
    pub(crate) damage: Option<Rc<IndexDamage>>,
}

/// Why a row has no vector.
#[derive(Debug)]
pub(crate) enum NoVector {
    /// It is damaged or gone.
    Lost(Option<Rc<IndexDamage>>),
    /// The store cannot be read.
    Fatal(Error),
}

impl From<Fault> for NoVector {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damaged(damage) => Self::Lost(Some(Rc::new(damage))),
            Fault::Fatal(error) => Self::Fatal(error),
        }
    }
}

/// What a write does, by its number in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Add,
    Update,
    Upsert,
    Delete,
}

impl Write {
    fn of(number: i64) -> Option<Self> {
        [Self::Add, Self::Update, Self::Upsert, Self::Delete].get(usize::try_from(number).ok()?).copied()
    }

    /// Whether it gives a row its vector. Chroma ignores an `add` of what exists and an `update` of what does not.
    fn sets(self, exists: bool) -> bool {
        match self {
            Self::Add => !exists,
            Self::Update => exists,
            Self::Upsert => true,
            Self::Delete => false,
        }
    }
}

/// Writes to the collection after `?2`. The topic of each ends in the collection's id.
const QUEUE: &str = "SELECT seq_id, operation, id, vector IS NOT NULL, created_at FROM embeddings_queue \
     WHERE seq_id > ?2 AND topic LIKE '%/' || ?1 ORDER BY seq_id";

/// One write, without its vector.
struct Entry {
    number: i64,
    write: Option<Write>,
    id: Rc<str>,
    has_vector: bool,
    /// In UTC, to the second.
    time: String,
}

impl Entry {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let id = match row.get_ref(2)? {
            ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into(),
            _ => Rc::from(""),
        };
        let (number, write) = (row.get(0)?, Write::of(row.get(1)?));
        Ok(Self { number, write, id, has_vector: row.get(3)?, time: row.get(4).unwrap_or_default() })
    }
}

/// What the database knows of rows, of which a damaged index tells nothing.
struct LiveRows<'a> {
    store: &'a Store,
    statement: Statement<'a>,
    segment: &'a str,
}

impl<'a> LiveRows<'a> {
    fn new(store: &'a Store, collection: &'a Collection) -> Result<Self, Error> {
        let select = "SELECT seq_id, created_at FROM embeddings WHERE segment_id = ?1 AND embedding_id = ?2";
        let statement = store.connection().prepare(select).map_err(|error| store.failed(&error))?;
        Ok(Self { store, statement, segment: collection.metadata_segment.as_deref().unwrap_or_default() })
    }

    /// Whether a write may have made its row what it is. A row knows the last write that concerned it, so a later one
    /// was ignored, and so was an `add` that came after the row was made.
    fn may_be_of(&mut self, entry: &Entry) -> Result<bool, Error> {
        let known =
            |row: &Row<'_>| Ok((sequence(row.get_ref(0)?)?, row.get::<_, String>(1).unwrap_or_default()));
        let row = self.statement.query_row((self.segment, &*entry.id), known).optional();
        let row = row.map_err(|error| self.store.failed(&error))?;
        let made_before = |made: &str| entry.write == Some(Write::Add) && made < &*entry.time;
        Ok(row.is_some_and(|(last, made)| last >= entry.number && !made_before(&made)))
    }
}

impl Vectors {
    /// Finds the vectors of a collection.
    pub(crate) fn find(store: &Store, collection: &Collection) -> Result<Self, Error> {
        let mut vectors = Self { places: HashMap::new(), index: None, files: None, damage: None };
        let read = |error| store.failed(&error);
        if queue_is_complete(store).map_err(read)? {
            vectors.replay(store, collection, 0)?;
        } else {
            let segment = collection.vector_segment.as_deref().unwrap_or_default();
            let mut last = last_in_index(store, segment).map_err(read)?;
            if !segment.is_empty() {
                let folder = store.directory.join(segment);
                let from_index = vectors.read_index(store, folder, segment, collection, last.is_some())?;
                last = last.or(from_index);
            }
            vectors.replay(store, collection, last.unwrap_or(0))?;
        }
        vectors.fill(store, collection)?;
        Ok(vectors)
    }

    /// Takes what the index has; returns its last write if it knows that itself. `written`: whether the database
    /// says that there is one.
    fn read_index(
        &mut self,
        store: &Store,
        folder: PathBuf,
        segment: &str,
        collection: &Collection,
        written: bool,
    ) -> Result<Option<i64>, Error> {
        self.files = Some((folder.clone(), hnsw::stamps(&folder)));
        if !hnsw::is_written(&folder)? && !written {
            return Ok(None);
        }
        if !hnsw::is_there(&folder)? {
            self.damage = Some(Rc::new(IndexDamage::NoFolder { folder: segment.to_owned() }));
            return Ok(None);
        }
        let open = || {
            let index = Index::open(folder, segment, collection.dimension, collection.is_cosine())?;
            let contents = index.contents(store.interrupted)?;
            Ok((index, contents))
        };
        match open() {
            Err(Fault::Damaged(damage)) => {
                self.damage = Some(Rc::new(damage));
                Ok(None)
            }
            Err(Fault::Fatal(error)) => Err(error),
            Ok((index, contents)) => {
                let places = contents.slots.into_iter().map(|(id, slot)| (id, Place::Index(slot)));
                self.places.extend(places);
                self.damage = contents.damage.map(Rc::new);
                self.index = Some(index);
                Ok(contents.max_seq_id.and_then(|last| i64::try_from(last).ok()))
            }
        }
    }

    /// Repeats the writes after number `after`, as Chroma would on its next start.
    fn replay(&mut self, store: &Store, collection: &Collection, after: i64) -> Result<(), Error> {
        let mut rows = LiveRows::new(store, collection)?;
        for_each_write(store, collection, after, |entry| {
            let Some(write) = entry.write else { return Ok(()) };
            let exists = self.places.contains_key(&entry.id);
            if write == Write::Delete {
                self.places.remove(&entry.id);
            } else if entry.has_vector && write.sets(exists) {
                // What a damaged index does not hold may exist nevertheless.
                if write != Write::Add || self.damage.is_none() || rows.may_be_of(&entry)? {
                    self.places.insert(entry.id, Place::Queue(entry.number));
                }
            }
            Ok(())
        })
    }

    /// Looks for the rows that have no vector so far, in all of the queue.
    fn fill(&mut self, store: &Store, collection: &Collection) -> Result<(), Error> {
        let mut rows = LiveRows::new(store, collection)?;
        let mut found: HashMap<Rc<str>, i64> = HashMap::new();
        for_each_write(store, collection, 0, |entry| {
            if self.places.contains_key(&entry.id) {
                return Ok(());
            }
            let Some(write) = entry.write else { return Ok(()) };
            let is_known = found.contains_key(&entry.id);
            if write == Write::Delete {
                found.remove(&entry.id);
            } else if entry.has_vector && !(write == Write::Add && is_known) && rows.may_be_of(&entry)? {
                found.insert(entry.id, entry.number);
            }
            Ok(())
        })?;
        self.places.extend(found.into_iter().map(|(id, number)| (id, Place::Queue(number))));
        Ok(())
    }

    /// Reads the vector of an id. What is returned explains why it has lost its length.
    pub(crate) fn read(
        &mut self,
        store: &Store,
        id: &str,
        dimension: Option<u64>,
        into: &mut Vec<f32>,
    ) -> Result<Option<IndexDamage>, NoVector> {
        match self.places.get(id) {
            Some(Place::Queue(number)) => from_queue(store, *number, dimension, into).map(|()| None),
            Some(Place::Index(slot)) => match &mut self.index {
                Some(index) => Ok(index.vector(*slot, into)?),
                None => Err(NoVector::Lost(self.damage.clone())),
            },
            None => Err(NoVector::Lost(self.damage.clone())),
        }
    }

    /// Whether the files of the index are still as they were. What is being written may look damaged.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.files.as_ref().is_none_or(|(folder, before)| hnsw::stamps(folder) == *before)
    }
}

/// Whether no write was ever taken from the queue. Chroma 0.4 never does; a queue that a later Chroma found complete
/// may have remained so.
fn queue_is_complete(store: &Store) -> rusqlite::Result<bool> {
    if !store.has_table("embeddings_queue_config")? {
        return Ok(true);
    }
    let (first, last): (Option<i64>, Option<i64>) =
        store.connection().query_row("SELECT min(seq_id), max(seq_id) FROM embeddings_queue", (), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let Some(last) = last.filter(|_| first == Some(1)) else { return Ok(false) };
    let mut known = store.connection().prepare("SELECT seq_id FROM max_seq_id")?;
    let mut rows = known.query(())?;
    while let Some(row) = rows.next()? {
        if sequence(row.get_ref(0)?)? > last {
            return Ok(false); // it began anew
        }
    }
    let count: i64 =
        store.connection().query_row("SELECT count(*) FROM embeddings_queue", (), |row| row.get(0))?;
    Ok(count == last)
}

/// The last write that the index of a segment has, if it has been written.
fn last_in_index(store: &Store, segment: &str) -> rusqlite::Result<Option<i64>> {
    let select = "SELECT seq_id FROM max_seq_id WHERE segment_id = ?1";
    store.connection().query_row(select, [segment], |row| sequence(row.get_ref(0)?)).optional()
}

/// The number of a write: an integer since Chroma 1.0, eight bytes before. A directory may have both.
fn sequence(value: ValueRef<'_>) -> rusqlite::Result<i64> {
    Ok(match value {
        ValueRef::Integer(number) => number,
        ValueRef::Blob(bytes) => {
            bytes.iter().fold(0, |number: i64, byte| number.wrapping_shl(8) | i64::from(*byte))
        }
        _ => 0,
    })
}

fn for_each_write(
    store: &Store,
    collection: &Collection,
    after: i64,
    mut act: impl FnMut(Entry) -> Result<(), Error>,
) -> Result<(), Error> {
    let read = |error| store.failed(&error);
    let mut statement = store.connection().prepare(QUEUE).map_err(read)?;
    let mut rows = statement.query((&collection.id, after)).map_err(read)?;
    let mut seen: u32 = 0;
    while let Some(row) = rows.next().map_err(read)? {
        seen = seen.wrapping_add(1);
        if seen.is_multiple_of(1 << 10) && (store.interrupted)() {
            return Err(Error::Interrupted);
        }
        act(Entry::of(row).map_err(read)?)?;
    }
    Ok(())
}

/// Reads the vector of a write.
fn from_queue(
    store: &Store,
    number: i64,
    dimension: Option<u64>,
    into: &mut Vec<f32>,
) -> Result<(), NoVector> {
    let fatal = |error| NoVector::Fatal(store.failed(&error));
    let mut statement = store
        .connection()
        .prepare_cached("SELECT vector, encoding FROM embeddings_queue WHERE seq_id = ?1")
        .map_err(fatal)?;
    let mut rows = statement.query([number]).map_err(fatal)?;
    let Some(row) = rows.next().map_err(fatal)? else { return Err(NoVector::Lost(None)) };
    let encoding = row.get_ref(1).map_err(fatal)?;
    let (ValueRef::Blob(bytes), ValueRef::Text(encoding)) = (row.get_ref(0).map_err(fatal)?, encoding) else {
        return Err(NoVector::Lost(Some(Rc::new(IndexDamage::Queue { number }))));
    };
    let (numbers, rest) = bytes.as_chunks::<4>();
    into.clear();
    match encoding {
        b"FLOAT32" => into.extend(numbers.iter().map(|number| f32::from_le_bytes(*number))),
        b"INT32" => into.extend(numbers.iter().map(|number| i32::from_le_bytes(*number) as f32)),
        _ => {}
    }
    let fits = rest.is_empty()
        && !into.is_empty()
        && dimension.is_none_or(|dimension| dimension == into.len() as u64)
        && into.iter().all(|number| number.is_finite());
    if fits { Ok(()) } else { Err(NoVector::Lost(Some(Rc::new(IndexDamage::Queue { number })))) }
}
