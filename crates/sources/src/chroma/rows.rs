//! The rows of a collection, some at a time. Documents, metadata and vectors are read when they are asked for.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::catalog::Collection;
use super::metadata::Reader;
use super::vectors::{NoVector, Vectors};
use super::{Field, read_error};
use crate::error::{BadValue, Error, Problem};
use crate::losses::Losses;
use crate::scan::{OnError, Operand, Rows};
use crate::value::{Type, Value};

/// Rows whose numbers are looked up at once.
const AHEAD: i64 = 256;

pub(crate) struct CollectionRows {
    connection: Rc<Connection>,
    directory: PathBuf,
    collection: Collection,
    fields: Vec<Field>,
    on_error: OnError,
    interrupted: fn() -> bool,
    metadata: Reader,
    /// Found when the first vector is asked for, and kept when the scan begins anew.
    vectors: Option<Vectors>,
    /// The ids that are asked for; `None`: all.
    ids: Option<BTreeSet<String>>,
    limit: Option<u64>,
    given: u64,
    ahead: VecDeque<(i64, String)>,
    last: i64,
    current: (i64, String),
    text: String,
    vector: Vec<f32>,
    losses: Losses,
}

/// What a scan of a collection is made of.
pub(crate) struct Wanted {
    pub(crate) fields: Vec<Field>,
    pub(crate) operands: Vec<Operand>,
    pub(crate) limit: Option<u64>,
    pub(crate) on_error: OnError,
}

impl CollectionRows {
    pub(crate) fn open(
        connection: Rc<Connection>,
        directory: PathBuf,
        collection: Collection,
        wanted: Wanted,
        interrupted: fn() -> bool,
    ) -> Result<Self, Error> {
        let metadata = Reader::new(&connection).map_err(|error| read_error("embedding_metadata", &error))?;
        let mut rows = Self {
            connection,
            directory,
            collection,
            fields: wanted.fields,
            on_error: wanted.on_error,
            interrupted,
            metadata,
            vectors: None,
            ids: None,
            limit: wanted.limit,
            given: 0,
            ahead: VecDeque::new(),
            last: i64::MIN,
            current: (0, String::new()),
            text: String::new(),
            vector: Vec::new(),
            losses: Losses::default(),
        };
        rows.rescan(&wanted.operands)?;
        Ok(rows)
    }

    fn look_ahead(&mut self) -> Result<(), Error> {
        let Some(segment) = &self.collection.metadata_segment else { return Ok(()) };
        let fill = |ahead: &mut VecDeque<(i64, String)>| {
            // The unary plus: by number, and not by id and then sorted.
            let select = "SELECT id, embedding_id FROM embeddings WHERE id > ?2 AND +segment_id = ?1 \
                 ORDER BY id LIMIT ?3";
            let mut statement = self.connection.prepare_cached(select)?;
            let mut rows = statement.query((segment, self.last, AHEAD))?;
            while let Some(row) = rows.next()? {
                let id = match row.get_ref(1)? {
                    ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    _ => String::new(),
                };
                ahead.push_back((row.get(0)?, id));
            }
            Ok(())
        };
        let result = fill(&mut self.ahead);
        if let Some((last, _)) = self.ahead.back() {
            self.last = *last;
        }
        result.map_err(|error: rusqlite::Error| read_error("embeddings", &error)).or_else(|error| {
            // What was found before the damage is given; what lies behind it cannot be counted.
            if self.on_error == OnError::Error {
                return Err(error);
            }
            self.losses.incomplete = true;
            self.losses.first.get_or_insert_with(|| Box::new(error));
            self.last = i64::MAX;
            Ok(())
        })
    }

    fn look_up(&mut self, ids: &BTreeSet<String>) -> Result<(), Error> {
        let Some(segment) = &self.collection.metadata_segment else { return Ok(()) };
        let error = |error| read_error("embeddings", &error);
        let select = "SELECT id FROM embeddings WHERE segment_id = ?1 AND embedding_id = ?2";
        let mut statement = self.connection.prepare_cached(select).map_err(error)?;
        for id in ids {
            if (self.interrupted)() {
                return Err(Error::Interrupted);
            }
            let number = statement.query_row((segment, id), |row| row.get(0)).optional().map_err(error)?;
            if let Some(number) = number {
                self.ahead.push_back((number, id.clone()));
            }
        }
        Ok(())
    }

    /// Counts what could not be given as it is, or ends the scan.
    fn lose(&mut self, error: Error) -> Result<(), Error> {
        if self.on_error == OnError::Error {
            return Err(error);
        }
        self.losses.value(error);
        Ok(())
    }

    fn bad_value(&self, column: &str, wanted: Type, value: &str, problem: Problem) -> Error {
        Error::Value(Box::new(BadValue {
            table: self.collection.name.clone(),
            row: self.row_name(),
            column: column.to_owned(),
            wanted: wanted.to_string(),
            value: value.replace('\0', "\\0").chars().take(60).collect(),
            problem,
        }))
    }

    /// The text under a key of Chroma's own, in `self.text`.
    fn read_text(&mut self, key: &str) -> Result<Option<Problem>, Option<Error>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT string_value FROM embedding_metadata WHERE id = ?1 AND key = ?2")
            .map_err(|error| Some(read_error("embedding_metadata", &error)))?;
        let mut rows = statement
            .query((self.current.0, key))
            .map_err(|error| Some(read_error("embedding_metadata", &error)))?;
        let row = rows.next().map_err(|error| Some(read_error("embedding_metadata", &error)))?;
        let Some(Ok(ValueRef::Text(bytes))) = row.map(|row| row.get_ref(0)) else { return Err(None) };
        self.text.clear();
        let text = String::from_utf8_lossy(bytes);
        let problem = match &text {
            std::borrow::Cow::Owned(_) => Some(Problem::Encoding),
            std::borrow::Cow::Borrowed(text) => text.contains('\0').then_some(Problem::Nul),
        };
        self.text.extend(text.chars().filter(|character| *character != '\0'));
        Ok(problem)
    }

    fn text_value(&mut self, column: &str, key: &str) -> Result<Value<'_>, Error> {
        match self.read_text(key) {
            Ok(None) => {}
            Ok(Some(problem)) => {
                let error = self.bad_value(column, Type::Text, &self.text, problem);
                self.lose(error)?;
            }
            Err(None) => return Ok(Value::Null),
            Err(Some(error)) => {
                self.lose(error)?;
                return Ok(Value::Null);
            }
        }
        Ok(Value::Text(&self.text))
    }

    fn metadata_value(&mut self) -> Result<Value<'_>, Error> {
        match self.metadata.read(&self.connection, self.current.0) {
            Ok((None, _)) => Ok(Value::Null),
            Ok((Some(json), changed)) => {
                self.text = json.to_string();
                if let Some(problem) = changed {
                    let error = self.bad_value("metadata", Type::Jsonb, &self.text, problem);
                    self.lose(error)?;
                }
                Ok(Value::Json(&self.text))
            }
            Err(error) => {
                self.lose(read_error("embedding_metadata", &error))?;
                Ok(Value::Null)
            }
        }
    }

    fn vector_value(&mut self, declared: Option<u16>) -> Result<Value<'_>, Error> {
        if self.vectors.is_none() {
            self.vectors = Some(self.find_vectors()?);
        }
        let Some(vectors) = &mut self.vectors else { return Ok(Value::Null) };
        let dimension = self.collection.dimension;
        match vectors.read(&self.connection, &self.current.1, dimension, &mut self.vector) {
            Ok(()) => {
                let found = self.vector.len();
                if let Some(expected) = declared.filter(|expected| usize::from(*expected) != found) {
                    let problem = Problem::Dimensions { expected, found };
                    let error = self.bad_value("embedding", Type::Vector(declared), "", problem);
                    self.lose(error)?;
                    return Ok(Value::Null);
                }
                Ok(Value::Vector(&self.vector))
            }
            Err(NoVector::Fatal(error)) => Err(error),
            Err(NoVector::Lost(damage)) => {
                let collection = self.collection.name.clone();
                self.lose(Error::NoVector { collection, id: self.current.1.clone(), damage })?;
                Ok(Value::Null)
            }
        }
    }

    /// While Chroma writes its index, no place in it is certain.
    fn find_vectors(&self) -> Result<Vectors, Error> {
        for _ in 0..3 {
            let vectors =
                Vectors::find(&self.connection, &self.directory, &self.collection, self.interrupted)?;
            if vectors.is_unchanged() {
                return Ok(vectors);
            }
        }
        Err(self.changing())
    }

    fn changing(&self) -> Error {
        Error::IndexChanging { collection: self.collection.name.clone() }
    }
}

impl Rows for CollectionRows {
    fn next(&mut self) -> Result<bool, Error> {
        if (self.interrupted)() {
            return Err(Error::Interrupted);
        }
        if self.limit.is_some_and(|limit| self.given >= limit) {
            return Ok(false);
        }
        if self.ahead.is_empty() && self.ids.is_none() {
            self.look_ahead()?;
        }
        match self.ahead.pop_front() {
            Some(row) => {
                self.current = row;
                self.given += 1;
                Ok(true)
            }
            None if self.vectors.as_ref().is_some_and(|vectors| !vectors.is_unchanged()) => {
                Err(self.changing())
            }
            None => Ok(false),
        }
    }

    fn value(&mut self, column: usize) -> Result<Value<'_>, Error> {
        match self.fields.get(column) {
            Some(Field::Id) => {
                if self.current.1.contains('\0') {
                    let error = self.bad_value("id", Type::Text, &self.current.1, Problem::Nul);
                    self.lose(error)?;
                    self.text = self.current.1.replace('\0', "");
                    return Ok(Value::Text(&self.text));
                }
                Ok(Value::Text(&self.current.1))
            }
            Some(Field::Document) => self.text_value("document", "chroma:document"),
            Some(Field::Uri) => self.text_value("uri", "chroma:uri"),
            Some(Field::Metadata) => self.metadata_value(),
            Some(Field::Embedding(dimensions)) => self.vector_value(*dimensions),
            None => Ok(Value::Null),
        }
    }

    fn row_name(&self) -> String {
        format!("id \"{}\"", self.current.1.replace('\0', "\\0"))
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
        self.ids = wanted_ids(operands);
        match self.ids.take() {
            Some(ids) => {
                self.look_up(&ids)?;
                self.ids = Some(ids);
            }
            None => self.ids = None,
        }
        Ok(())
    }
}

/// The ids that satisfy all filters, which are all on the id; `None` without a filter.
fn wanted_ids(operands: &[Operand]) -> Option<BTreeSet<String>> {
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
