//! Queues: tables beside those with vectors, which tell whose rows wait for theirs.
//!
//! A queue is an ordinary table of the same owner. Writers only ever append the keys of rows; what is to be embedded is
//! not in it, but follows from the trigger. A worker reads items, makes the vectors of the rows as they are by then, and
//! deletes exactly the items that it has read. So several items of one row are as good as one, and whatever order things
//! happen in, a row whose text has changed has an item until its vector is that of its text.

mod definition;
mod items;
mod state;
mod write_back;

use std::ffi::CString;

use pgrx::pg_sys;

use crate::attachment::{Timing, fillers, recorded_queue};
use crate::error::{Error, TableFault};
use crate::pg::spi;
use crate::pg::statement::{Cell, CellKind, Command, Rows};
use crate::pg::table::{KeyColumn, Kind, Table, quote_identifier};
use crate::pg::table_triggers::{trigger_comment, trigger_function};
use crate::refresh::Job;
use crate::refresh::chunks::{ChunkJob, FUNCTION};

pub(crate) use items::{Item, Todo};
pub(crate) use write_back::{WriteBack, is_written_by_worker, repeat};

/// The queue of a vector column.
pub(crate) struct Queue<'t> {
    relation: &'t Table,
    pub(crate) table: Table,
    /// The primary key of the relation.
    key: Vec<KeyColumn>,
}

/// The columns of a queue beside those of the key, and their types.
const COLUMNS: [(&str, pg_sys::Oid); 7] = [
    ("id", pg_sys::INT8OID),
    ("supplied", pg_sys::BOOLOID),
    ("queued_at", pg_sys::TIMESTAMPTZOID),
    ("attempts", pg_sys::INT4OID),
    ("next_try", pg_sys::TIMESTAMPTZOID),
    ("sqlstate", pg_sys::TEXTOID),
    ("message", pg_sys::TEXTOID),
];

/// How a queue is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// With the lock of who writes rows.
    Write,
}

/// The column that has the key's column at this place.
fn key_column(place: usize) -> String {
    format!("key{}", place + 1)
}

impl<'t> Queue<'t> {
    /// The queue of this name in the relation's schema.
    pub(crate) fn open(relation: &'t Table, name: &str, access: Access) -> Result<Self, Error> {
        let quoted = quote_identifier(name);
        let missing = || relation.unfit(TableFault::NoQueue { queue: quoted.clone() });
        let oid = Table::find(&relation.schema(), name).ok_or_else(missing)?;
        let table = match access {
            Access::Read => Table::open_briefly(oid)?,
            Access::Write => Table::open_to_write(oid, relation.owner())?,
        };
        // Whoever writes rows writes to the queue with its owner's privileges, and its triggers run as its owner.
        if table.owner() != relation.owner() {
            return Err(table.unfit(TableFault::OthersQueue { relation: relation.name() }));
        }
        let key = relation.primary_key()?;
        let is_alike = |(place, column): (usize, &KeyColumn)| {
            // Whatever the key may hold, the queue must: it is made without a modifier.
            table.column(&key_column(place)).is_ok_and(|of| {
                let whole = table.whole_type_of(of.number);
                whole == relation.type_of(column.number) || whole == relation.whole_type_of(column.number)
            })
        };
        let has = |(name, of): (&str, pg_sys::Oid)| table.has_column(name, of);
        let has_no_more = table.column(&key_column(key.len())).is_err();
        let is_a_queue = table.kind() == Kind::Ordinary && has_no_more && COLUMNS.into_iter().all(has);
        if !is_a_queue || !key.iter().enumerate().all(is_alike) {
            return Err(table.unfit(TableFault::OtherQueue { relation: relation.name() }));
        }
        Ok(Self { relation, table, key })
    }

    /// The error of a table that is not as queues are made.
    fn unfit(&self) -> Error {
        self.table.unfit(TableFault::OtherQueue { relation: self.relation.name() })
    }

    /// The columns of the key, of `q`.
    fn key_columns(&self) -> Vec<String> {
        (0..self.key.len()).map(|place| format!("q.{}", key_column(place))).collect()
    }

    /// Values of a key in rows `v`, whose columns begin with `prefix`.
    fn key_values(&self, prefix: &str) -> Vec<String> {
        let value = |(place, column): (usize, &KeyColumn)| {
            format!("v.{prefix}{place}::{}", self.relation.type_of(column.number))
        };
        self.key.iter().enumerate().map(value).collect()
    }

    /// That the item `q` is of the row that `v` names.
    fn is_named(&self, prefix: &str) -> String {
        let pairs = self.key_columns().into_iter().zip(self.key_values(prefix));
        let clauses =
            pairs.zip(&self.key).map(|((one, two), key)| self.relation.key_equality(*key, &one, &two));
        clauses.collect::<Vec<_>>().join(" AND ")
    }

    fn from(&self) -> String {
        format!("ONLY {} AS q", self.table.quoted_name())
    }

    fn keys(prefix: &'static str, count: usize) -> impl Iterator<Item = (String, CellKind)> {
        (0..count).map(move |place| (format!("{prefix}{place}"), CellKind::Text))
    }

    fn rows(columns: Vec<(String, CellKind)>) -> Rows {
        Rows::new(columns.iter().map(|(name, kind)| (name.as_str(), *kind)))
    }

    /// The one row of a query over the items `q`.
    fn ask(&self, what: &str) -> Result<Vec<Option<String>>, Error> {
        let sql = format!("SELECT {what} FROM {}", self.from());
        let mut answer = nothing().query(self.table.owner(), &sql)?;
        answer.next().ok_or(Error::Internal("a count gave no row"))?
    }

    /// How many rows wait.
    pub(crate) fn count(&self) -> Result<i64, Error> {
        let keys = self.key_columns().join(", ");
        number(self.ask(&format!("pg_catalog.count(DISTINCT ({keys}))"))?.first())
    }

    /// The number of rows that wait, for a count of other things.
    pub(crate) fn count_of_rows(&self) -> String {
        let keys = self.key_columns().join(", ");
        format!("(SELECT pg_catalog.count(*) FROM (SELECT DISTINCT {keys} FROM {}) AS w)", self.from())
    }
}

/// No rows, for queries that need none.
fn nothing() -> Rows {
    Rows::new([("nothing", CellKind::Int)])
}

fn number(value: Option<&Option<String>>) -> Result<i64, Error> {
    let value = value.and_then(Option::as_ref).and_then(|value| value.parse().ok());
    value.ok_or(Error::Internal("a count gave no number"))
}

/// What a statement adds to a queue.
pub(crate) struct Additions<'q> {
    queue: &'q Queue<'q>,
    rows: Rows,
    /// Whether there are some that depend on what is in the queue.
    asks: bool,
    moves: bool,
}

impl<'q> Additions<'q> {
    pub(crate) fn new(queue: &'q Queue<'q>) -> Self {
        let count = queue.key.len();
        let flags = ["asks", "moves"].map(|name| (name.to_owned(), CellKind::Bool));
        let columns = Queue::keys("k", count).chain(Queue::keys("w", count)).chain(flags);
        Self { queue, rows: Queue::rows(columns.collect()), asks: false, moves: false }
    }

    pub(crate) fn key(&self) -> &'q [KeyColumn] {
        &self.queue.key
    }

    pub(crate) fn relation(&self) -> &'q Table {
        self.queue.relation
    }

    /// Adds a row that needs its vector made.
    pub(crate) fn add(&mut self, key: &[CString]) {
        self.put(key, key, false, false);
    }

    /// Adds that a row's vector was supplied, if it waits for one.
    pub(crate) fn add_supplied(&mut self, key: &[CString]) {
        self.asks = true;
        self.put(key, key, true, false);
    }

    /// Adds a row whose key has changed: what is said last of the old key holds for the new one. If nothing is, the row
    /// needs no vector, and what is said of the new key means another row, which had it before.
    pub(crate) fn add_moved(&mut self, old: &[CString], new: &[CString]) {
        (self.asks, self.moves) = (true, true);
        self.put(new, old, true, true);
    }

    fn put(&mut self, key: &[CString], waits: &[CString], asks: bool, moves: bool) {
        let cells: Vec<Cell<'_>> = key
            .iter()
            .chain(waits)
            .map(|value| Cell::Raw(value))
            .chain([asks, moves].map(Cell::Bool))
            .collect();
        self.rows.put(&cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.count() == 0
    }

    /// Appends the items; returns how many.
    pub(crate) fn append(&self) -> Result<u64, Error> {
        let Self { queue, rows, asks, moves } = self;
        let columns: Vec<String> = (0..queue.key.len()).map(key_column).collect();
        let waits =
            |prefix: &str| format!("EXISTS (SELECT FROM {} WHERE {})", queue.from(), queue.is_named(prefix));
        let (supplied, source) = match moves {
            true => (
                "v.asks AND (NOT v.moves OR COALESCE(l.supplied, true))",
                format!(
                    " LEFT JOIN LATERAL (SELECT q.supplied FROM {} WHERE v.moves AND {} ORDER BY q.id DESC LIMIT 1) \
                     AS l ON true WHERE NOT v.asks OR l.supplied IS NOT NULL OR {}",
                    queue.from(),
                    queue.is_named("w"),
                    waits("k"),
                ),
            ),
            false if *asks => ("v.asks", format!(" WHERE NOT v.asks OR {}", waits("w"))),
            false => ("false", String::new()),
        };
        let sql = format!(
            "INSERT INTO {} ({}, supplied) SELECT {}, {supplied} FROM vector_embed_rows AS v{source}",
            queue.table.quoted_name(),
            columns.join(", "),
            queue.key_values("k").join(", "),
        );
        rows.execute(queue.table.owner(), &sql, Command::Insert).ok_or_else(|| queue.unfit())
    }
}

/// What is attached to be served from a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) work: Work,
    pub(crate) queue: String,
}

/// What is made of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    Vector(Job),
    Chunks(Box<ChunkJob>),
}

impl Work {
    pub(crate) fn relation(&self) -> pg_sys::Oid {
        match self {
            Self::Vector(job) => job.relation,
            Self::Chunks(job) => job.documents,
        }
    }

    /// The vector column, as `vector_embed.attachment_status` has it.
    pub(crate) fn column(&self) -> String {
        match self {
            Self::Vector(job) => job.embedding.clone(),
            Self::Chunks(job) => {
                let names = [&job.schema, &job.table, &job.options.columns.embedding];
                names.map(|name| quote_identifier(name)).join(".")
            }
        }
    }

    pub(crate) fn model(&self) -> &str {
        match self {
            Self::Vector(job) => &job.model,
            Self::Chunks(job) => &job.model,
        }
    }

    /// The hash that the model must have.
    pub(crate) fn hash(&self) -> Option<&str> {
        match self {
            Self::Vector(job) => job.hash.as_deref(),
            Self::Chunks(job) => job.hash.as_deref(),
        }
    }
}

/// The vector columns of a table that are served from queues. One that is broken keeps nobody from serving others.
pub(crate) fn served(table: &Table) -> Vec<Result<Served, Error>> {
    let mut found: Vec<Result<Served, Error>> = Vec::new();
    let is_known = |found: &[Result<Served, Error>], column: &str| {
        found.iter().flatten().any(|served| served.work.column() == column)
    };
    for filler in fillers(table).iter().filter(|filler| filler.timing == Timing::Queue) {
        if let Some(queue) = &filler.queue
            && !is_known(&found, filler.embedding())
        {
            let work = Job::of(table, filler).map(Work::Vector);
            found.push(work.map(|work| Served { work, queue: queue.clone() }));
        }
    }
    for trigger in table.triggers() {
        let queue = recorded_queue(trigger_comment(trigger.oid).as_deref(), &trigger.arguments);
        match (ChunkJob::of(table, &trigger), queue) {
            (Err(error), _) => found.push(Err(error)),
            (Ok(Some(job)), Some(queue)) => {
                let work = Work::Chunks(Box::new(job));
                if !is_known(&found, &work.column()) {
                    found.push(Ok(Served { work, queue }));
                }
            }
            (Ok(_), _) => {}
        }
    }
    found
}

/// The tables of this database with such columns; of a role, if one is given, those whose owner's privileges it has.
pub(crate) fn relations(of: Option<pg_sys::Oid>) -> Result<Vec<pg_sys::Oid>, Error> {
    let functions = [Timing::Queue.function(), FUNCTION].map(trigger_function);
    if functions.contains(&pg_sys::InvalidOid) {
        return Ok(Vec::new());
    }
    let functions = functions.map(|function| function.to_u32().to_string()).join(", ");
    let role = of.map_or(String::new(), |role| {
        format!(" AND pg_catalog.pg_has_role({}::pg_catalog.oid, c.relowner, 'USAGE')", role.to_u32())
    });
    let sql = format!(
        "SELECT DISTINCT t.tgrelid::pg_catalog.int8 FROM pg_catalog.pg_trigger AS t \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid \
         WHERE t.tgfoid OPERATOR(pg_catalog.=) ANY (ARRAY[{functions}]::pg_catalog.oid[]) \
         AND pg_catalog.strpos(pg_catalog.obj_description(t.oid, 'pg_trigger'), '\"queue\":') OPERATOR(pg_catalog.>) 0 \
         AND c.relkind OPERATOR(pg_catalog.=) 'r' AND c.relpersistence OPERATOR(pg_catalog.<>) 't'{role} ORDER BY 1"
    );
    let number = |text: String| text.parse::<u32>().map(pg_sys::Oid::from).ok();
    Ok(spi::strings(&sql)?.into_iter().filter_map(number).collect())
}

/// Whether a subscription brings a queue its items: then they are served where they come from.
pub(crate) fn is_subscribed(queue: pg_sys::Oid) -> Result<bool, Error> {
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_subscription_rel AS s \
         WHERE s.srrelid OPERATOR(pg_catalog.=) {}::pg_catalog.oid",
        queue.to_u32()
    );
    Ok(spi::numbers(&sql, 1)?[0] > 0)
}
