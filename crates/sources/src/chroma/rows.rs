//! The rows of a collection, some at a time. Documents, metadata and vectors are read when they are asked for.

use std::collections::{BTreeSet, VecDeque};

use rusqlite::OptionalExtension;
use rusqlite::types::ValueRef;

use super::catalog::Collection;
use super::metadata::{Fault, Reader, excerpt};
use super::store::Store;
use super::vectors::{NoVector, Vectors};
use super::{Field, vector_problem};
use crate::error::{BadValue, Error, Problem};
use crate::losses::Losses;
use crate::scan::{OnError, Operand, Rows};
use crate::text::{InvalidText, fitting};
use crate::value::{Type, Value};

/// Rows whose numbers are looked up at once.
const AHEAD: i64 = 256;

/// How often it is looked where vectors are, while the index is being written.
const TRIES: u32 = 3;

pub(crate) struct CollectionRows {
    store: Store,
    collection: Collection,
    wanted: Wanted,
    metadata: Reader,
    /// Found when the first vector is asked for, and kept when the scan begins anew.
    vectors: Option<Vectors>,
    /// Whether only rows with certain ids are asked for, which are found when the scan begins.
    by_id: bool,
    given: u64,
    ahead: VecDeque<(i64, Vec<u8>)>,
    last: i64,
    /// Number in table `embeddings`, and id.
    current: (i64, Vec<u8>),
    text: String,
    vector: Vec<f32>,
    losses: Losses,
}

/// What a scan of a collection is to give.
pub(crate) struct Wanted {
    pub(crate) fields: Vec<Field>,
    pub(crate) limit: Option<u64>,
    pub(crate) on_error: OnError,
    pub(crate) on_damage: OnError,
    pub(crate) invalid_text: InvalidText,
}

impl CollectionRows {
    pub(crate) fn open(
        store: Store,
        collection: Collection,
        wanted: Wanted,
        operands: &[Operand],
    ) -> Result<Self, Error> {
        let metadata = Reader::new(&store, wanted.invalid_text).map_err(|error| store.failed(&error))?;
        let mut rows = Self {
            store,
            collection,
            wanted,
            metadata,
            vectors: None,
            by_id: false,
            given: 0,
            ahead: VecDeque::new(),
            last: i64::MIN,
            current: (0, Vec::new()),
            text: String::new(),
            vector: Vec::new(),
            losses: Losses::default(),
        };
        rows.rescan(operands)?;
        Ok(rows)
    }

    fn look_ahead(&mut self) -> Result<(), Error> {
        let Some(segment) = &self.collection.metadata_segment else { return Ok(()) };
        // The unary plus: by number, and not by id and then sorted.
        let select = "SELECT id, embedding_id FROM embeddings WHERE id > ?2 AND +segment_id = ?1 \
             ORDER BY id LIMIT ?3";
        let fill = |ahead: &mut VecDeque<(i64, Vec<u8>)>| {
            let mut statement = self.store.connection().prepare_cached(select)?;
            let mut rows = statement.query((segment, self.last, AHEAD))?;
            while let Some(row) = rows.next()? {
                let id = row.get_ref(1)?.as_bytes().unwrap_or_default();
                ahead.push_back((row.get(0)?, id.to_owned()));
            }
            Ok(())
        };
        let result = fill(&mut self.ahead).map_err(|error: rusqlite::Error| self.store.failed(&error));
        self.last = self.ahead.back().map_or(i64::MAX, |(last, _)| *last);
        match result {
            // What was found before the damage is given; what lies behind it cannot be counted.
            Err(error @ Error::Damaged { .. }) if self.wanted.on_error == OnError::Null => {
                self.last = i64::MAX;
                self.losses.incomplete(error);
                Ok(())
            }
            result => result,
        }
    }

    fn look_up(&mut self, ids: &BTreeSet<String>) -> Result<(), Error> {
        let Some(segment) = &self.collection.metadata_segment else { return Ok(()) };
        let failed = |error: rusqlite::Error| self.store.failed(&error);
        let select = "SELECT id FROM embeddings WHERE segment_id = ?1 AND embedding_id = ?2";
        let mut statement = self.store.connection().prepare_cached(select).map_err(failed)?;
        for id in ids {
            if (self.store.interrupted)() {
                return Err(Error::Interrupted);
            }
            let found = statement.query_row((segment, id), |row| row.get(0)).optional().map_err(failed);
            match found {
                Ok(Some(number)) => self.ahead.push_back((number, id.clone().into_bytes())),
                Ok(None) => {}
                // Others may be found all the same.
                Err(error @ Error::Damaged { .. }) if self.wanted.on_error == OnError::Null => {
                    self.losses.rows(1, error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn bad_value(&self, column: &str, wanted: Type, value: String, problem: Problem) -> Error {
        Error::Value(Box::new(BadValue {
            table: self.collection.name.clone(),
            row: self.row_name(),
            column: column.to_owned(),
            wanted: wanted.to_string(),
            value,
            problem,
        }))
    }

    /// Gives NULL for a value that does not fit or cannot be read, and counts it; or ends the scan.
    fn null(&mut self, error: Error, on_error: OnError) -> Result<Value<'_>, Error> {
        let is_lost = matches!(error, Error::Value(_) | Error::NoVector { .. } | Error::Damaged { .. });
        self.losses.null(error, if is_lost { on_error } else { OnError::Error })
    }

    fn id_value(&mut self) -> Result<Value<'_>, Error> {
        if let Err(problem) = fitting(&self.current.1, self.wanted.invalid_text, &mut self.text) {
            let error = self.bad_value("id", Type::Text, excerpt(&self.current.1), problem);
            return self.null(error, self.wanted.on_error);
        }
        // Twice, since a borrowed result cannot be given away on one of two ways.
        let id = fitting(&self.current.1, self.wanted.invalid_text, &mut self.text).unwrap_or_default();
        Ok(Value::Text(id))
    }

    /// The text under one of Chroma's own keys.
    fn text_value(&mut self, column: &str, key: &str) -> Result<Value<'_>, Error> {
        let found = self.read_text(key);
        match found {
            Ok(true) => Ok(Value::Text(&self.text)),
            Ok(false) => Ok(Value::Null),
            Err(Fault::Value(value, problem)) => {
                self.null(self.bad_value(column, Type::Text, value, problem), self.wanted.on_error)
            }
            Err(Fault::Database(error)) => self.null(self.store.failed(&error), self.wanted.on_error),
        }
    }

    /// Reads such a text into `self.text`; false if there is none.
    fn read_text(&mut self, key: &str) -> Result<bool, Fault> {
        let select = "SELECT string_value FROM embedding_metadata WHERE id = ?1 AND key = ?2";
        let mut statement = self.store.connection().prepare_cached(select)?;
        let mut rows = statement.query((self.current.0, key))?;
        let Some(row) = rows.next()? else { return Ok(false) };
        let ValueRef::Text(bytes) = row.get_ref(0)? else { return Ok(false) };
        let mut scratch = String::new();
        let text = fitting(bytes, self.wanted.invalid_text, &mut scratch)
            .map_err(|problem| Fault::Value(excerpt(bytes), problem))?;
        self.text.clear();
        self.text.push_str(text);
        Ok(true)
    }

    fn metadata_value(&mut self) -> Result<Value<'_>, Error> {
        match self.metadata.read(&self.store, self.current.0) {
            Ok(None) => Ok(Value::Null),
            Ok(Some(json)) => {
                self.text = json.to_string();
                Ok(Value::Json(&self.text))
            }
            Err(Fault::Value(value, problem)) => {
                self.null(self.bad_value("metadata", Type::Jsonb, value, problem), self.wanted.on_error)
            }
            Err(Fault::Database(error)) => self.null(self.store.failed(&error), self.wanted.on_error),
        }
    }

    fn vector_value(&mut self, declared: Option<u16>) -> Result<Value<'_>, Error> {
        let mut vectors = match self.vectors.take() {
            Some(vectors) => vectors,
            None => self.find_vectors()?,
        };
        let id = std::str::from_utf8(&self.current.1).unwrap_or_default();
        let read = vectors.read(&self.store, id, self.collection.dimension, &mut self.vector);
        self.vectors = Some(vectors);
        match read {
            Ok(lost) => {
                if let Some(problem) = vector_problem(&self.vector, declared) {
                    let of = Type::Vector(declared);
                    let error = self.bad_value("embedding", of, "a vector".to_owned(), problem);
                    return self.null(error, self.wanted.on_error);
                }
                if let Some(damage) = lost {
                    let (collection, id) = (self.collection.name.clone(), self.shown_id());
                    let error = Error::NoLength { collection, id, damage: Box::new(damage) };
                    self.losses.partial(error, self.wanted.on_damage)?;
                }
                Ok(Value::Vector(&self.vector))
            }
            Err(NoVector::Fatal(error)) => self.null(error, self.wanted.on_error),
            Err(NoVector::Lost(damage)) => {
                let (collection, id) = (self.collection.name.clone(), self.shown_id());
                self.null(Error::NoVector { collection, id, damage }, self.wanted.on_damage)
            }
        }
    }

    /// While Chroma writes its index, no place in it is certain.
    fn find_vectors(&self) -> Result<Vectors, Error> {
        for _ in 0..TRIES {
            let vectors = Vectors::find(&self.store, &self.collection)?;
            if vectors.is_unchanged() {
                return Ok(vectors);
            }
        }
        Err(self.changing())
    }

    fn changing(&self) -> Error {
        Error::IndexChanging { collection: self.collection.name.clone() }
    }

    fn shown_id(&self) -> String {
        String::from_utf8_lossy(&self.current.1).replace('\0', "\\0")
    }
}

impl Rows for CollectionRows {
    fn next(&mut self) -> Result<bool, Error> {
        if (self.store.interrupted)() {
            return Err(Error::Interrupted);
        }
        let is_enough = self.wanted.limit.is_some_and(|limit| self.given >= limit);
        if is_enough || self.ahead.is_empty() {
            // What was read from the index since the last look may have been half written.
            if self.vectors.as_ref().is_some_and(|vectors| !vectors.is_unchanged()) {
                return Err(self.changing());
            }
        }
        if is_enough {
            return Ok(false);
        }
        if self.ahead.is_empty() && !self.by_id {
            self.look_ahead()?;
        }
        match self.ahead.pop_front() {
            Some(row) => {
                self.current = row;
                self.given += 1;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn value(&mut self, column: usize) -> Result<Value<'_>, Error> {
        match self.wanted.fields.get(column) {
            Some(Field::Id) => self.id_value(),
            Some(Field::Document) => self.text_value("document", "chroma:document"),
            Some(Field::Uri) => self.text_value("uri", "chroma:uri"),
            Some(Field::Metadata) => self.metadata_value(),
            Some(Field::Embedding(dimensions)) => self.vector_value(*dimensions),
            None => Ok(Value::Null),
        }
    }

    fn row_name(&self) -> String {
        format!("id \"{}\"", self.shown_id())
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }

    fn losses_mut(&mut self) -> &mut Losses {
        &mut self.losses
    }

    fn rescan(&mut self, operands: &[Operand]) -> Result<(), Error> {
        self.ahead.clear();
        self.last = i64::MIN;
        self.given = 0;
        let ids = wanted_ids(operands);
        self.by_id = ids.is_some();
        match ids {
            Some(ids) => self.look_up(&ids),
            None => Ok(()),
        }
    }
}

/// The ids that satisfy all filters, which are all on the id; `None` without a filter.
pub(super) fn wanted_ids(operands: &[Operand]) -> Option<BTreeSet<String>> {
    let ids = |operand: &Operand| -> BTreeSet<String> {
        match operand {
            Operand::Text(id) => BTreeSet::from([id.clone()]),
            Operand::Several(several) => several
                .iter()
                .filter_map(|operand| if let Operand::Text(id) = operand { Some(id.clone()) } else { None })
                .collect(),
            _ => BTreeSet::new(),
        }
    };
    let mut operands = operands.iter();
    let first = ids(operands.next()?);
    Some(operands.fold(first, |wanted, operand| wanted.intersection(&ids(operand)).cloned().collect()))
}
