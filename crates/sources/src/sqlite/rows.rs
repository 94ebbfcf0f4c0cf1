//! Rows of a table or view, under way.

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::{Rows as Cursor, Statement};
use self_cell::{MutBorrow, self_cell};

use super::Sqlite;
use super::convert::{Scratch, Target, convert, tell};
use super::file::{Database, Failure, classify, failed, says};
use super::query::{Query, Resume, build};
use super::schema::{Key, Relation};
use crate::error::{BadValue, Error};
use crate::losses::Losses;
use crate::scan::{OnError, Operand, Rows, Scan};
use crate::value::Value;

self_cell!(
    /// A statement, with the database that it is of.
    struct Prepared {
        owner: Database,
        #[covariant]
        dependent: Statement,
    }
);

self_cell!(
    /// A statement that runs.
    struct Running {
        owner: MutBorrow<Prepared>,
        #[covariant]
        dependent: Cursor,
    }
);

/// A scan's rows.
pub(super) struct TableRows {
    source: Sqlite,
    relation: Relation,
    scan: Scan,
    targets: Vec<Target>,
    query: Query,
    running: Option<Running>,
    scratch: Scratch,
    losses: Losses,
    /// Rows given.
    count: u64,
    /// Rowid of the last row that could be read.
    last: Option<i64>,
    /// Whether to go on after what cannot be read.
    skips_damage: bool,
}

impl TableRows {
    pub(super) fn open(
        source: &Sqlite,
        database: Database,
        relation: Relation,
        scan: &Scan,
    ) -> Result<Self, Error> {
        let targets = scan
            .columns
            .iter()
            .map(|(name, of)| {
                let at = relation.position(name).ok_or_else(|| source.no_column(name, &relation))?;
                let affinity = relation.columns[at].affinity;
                Ok(Target { of: *of, affinity, invalid_text: source.invalid_text })
            })
            .collect::<Result<_, Error>>()?;
        let query = build(&relation, scan, source.invalid_text, None);
        let mut rows = Self {
            source: source.clone(),
            relation,
            scan: scan.clone(),
            targets,
            query,
            running: None,
            scratch: Scratch::default(),
            losses: Losses::default(),
            count: 0,
            last: None,
            skips_damage: scan.on_error == OnError::Null,
        };
        let running = rows.run(database)?;
        rows.running = Some(running);
        Ok(rows)
    }

    /// The same, which goes on after what cannot be read even where values that do not fit are errors.
    pub(super) fn skipping_damage(mut self) -> Self {
        self.skips_damage = true;
        self
    }

    /// The table's name.
    pub(super) fn table(&self) -> String {
        self.relation.name.clone()
    }

    /// The last row's rowid, if the table has such.
    pub(super) fn rowid(&self) -> Option<i64> {
        self.last
    }

    /// Prepares the query and begins to run it.
    fn run(&self, database: Database) -> Result<Running, Error> {
        let prepared = Prepared::try_new(database, |database| database.connection().prepare(&self.query.sql))
            .map_err(|error| self.failed(&error))?;
        self.start(prepared)
    }

    fn start(&self, prepared: Prepared) -> Result<Running, Error> {
        Running::try_new(MutBorrow::new(prepared), |prepared| {
            prepared.borrow_mut().with_dependent_mut(|_, statement| {
                for (number, value) in self.query.bound.iter().enumerate() {
                    statement.raw_bind_parameter(number + 1, value)?;
                }
                Ok(statement.raw_query())
            })
        })
        .map_err(|error: rusqlite::Error| self.failed(&error))
    }

    /// An error that concerns the table.
    fn failed(&self, error: &rusqlite::Error) -> Error {
        let table = self.relation.name.clone();
        match classify(error) {
            Failure::Damaged(detail) => Error::Damaged {
                what: super::WHAT,
                path: self.source.path.display().to_string(),
                detail: match self.last.filter(|_| self.count > 0) {
                    Some(rowid) => format!("In table \"{table}\", after rowid {rowid}. {}", says(&detail)),
                    None if self.count > 0 => {
                        format!("In table \"{table}\", after row {}. {}", self.count, says(&detail))
                    }
                    None => format!("In table \"{table}\". {}", says(&detail)),
                },
            },
            Failure::Other(detail) => Error::Read { table, detail: says(&detail) },
            _ => failed(&self.source.path, error),
        }
    }

    /// Leaves out what cannot be read: goes on with the next rowid that can be.
    fn skip(&mut self, error: Error) -> Result<bool, Error> {
        self.losses.incomplete(error);
        let Some(running) = self.running.take() else { return Ok(false) };
        let database = running.into_owner().into_inner().into_owner();
        let next = match (&self.relation.key, self.last) {
            (Key::Rowid(rowid), last) => {
                let from = last.map_or(Some(i64::MIN), |last| last.checked_add(1));
                from.map(|from| self.next_readable(&database, rowid, from)).transpose()?.flatten()
            }
            _ => None,
        };
        let Some(next) = next else { return Ok(false) };
        if let Some(last) = self.last {
            self.losses.rows += next.abs_diff(last).saturating_sub(1);
        }
        let limit = self.scan.limit.map(|limit| limit.saturating_sub(self.count));
        let resume = Some(Resume { from: next, limit });
        self.query = build(&self.relation, &self.scan, self.source.invalid_text, resume);
        self.running = Some(self.run(database)?);
        Ok(true)
    }

    /// The first rowid from `from` on that leads to a page that can be read. Steps double, then halve.
    fn next_readable(&self, database: &Database, rowid: &str, from: i64) -> Result<Option<i64>, Error> {
        let mut columns = vec![rowid.to_owned()];
        columns.extend(self.scan.columns.iter().map(|(name, _)| super::schema::quote(name)));
        let table = super::schema::quote(&self.relation.name);
        let sql =
            format!("SELECT {} FROM {table} WHERE {rowid} >= ? ORDER BY {rowid} LIMIT 1", columns.join(", "));
        let mut statement = database.connection().prepare(&sql).map_err(|error| self.failed(&error))?;
        // The rowid that is found, or none: the outer answer is whether the page could be read.
        let mut probe = |from: i64| -> Result<Option<Option<i64>>, Error> {
            let mut rows = statement.query([from]).map_err(|error| self.failed(&error))?;
            match rows.next() {
                Ok(Some(row)) => Ok(Some(row.get(0).ok())),
                Ok(None) => Ok(Some(None)),
                Err(error) if matches!(classify(&error), Failure::Damaged(_)) => Ok(None),
                Err(error) => Err(self.failed(&error)),
            }
        };
        let (mut unreadable, mut step) = (from, 1_i64);
        let mut readable;
        loop {
            let Some(next) = unreadable.checked_add(step) else { return Ok(None) };
            if let Some(found) = probe(next)? {
                readable = (next, found);
                break;
            }
            unreadable = next;
            step = step.saturating_mul(2);
        }
        while readable.0.abs_diff(unreadable) > 1 {
            let middle = unreadable + (readable.0.abs_diff(unreadable) / 2) as i64;
            match probe(middle)? {
                Some(found) => readable = (middle, found),
                None => unreadable = middle,
            }
        }
        Ok(readable.1)
    }

    /// What to do with an error at a row.
    fn cannot_step(&mut self, error: &rusqlite::Error) -> Result<bool, Error> {
        let damaged = matches!(classify(error), Failure::Damaged(_));
        let error = self.failed(error);
        if damaged && self.skips_damage { self.skip(error) } else { Err(error) }
    }
}

/// What names a row: its key, or its number.
fn row_name(running: &Running, key: &Key, count: u64) -> String {
    let part = |at: usize| running.borrow_dependent().get().and_then(|row| row.get_ref(at).ok()).map(tell);
    match key {
        Key::Rowid(_) => format!("rowid {}", part(0).unwrap_or_default()),
        Key::Columns(names) => {
            let parts = (0..names.len()).map(|at| part(at).unwrap_or_default());
            format!("key ({})", parts.collect::<Vec<_>>().join(", "))
        }
        Key::Number => format!("row {count}"),
    }
}

impl Rows for TableRows {
    fn next(&mut self) -> Result<bool, Error> {
        loop {
            if (self.source.host.interrupted)() {
                return Err(Error::Interrupted);
            }
            let Some(running) = &mut self.running else { return Ok(false) };
            let by_rowid = matches!(self.relation.key, Key::Rowid(_));
            let stepped = running.with_dependent_mut(|_, rows| match rows.next() {
                Ok(Some(row)) if by_rowid => row.get::<_, i64>(0).map(Some),
                Ok(Some(_)) => Ok(Some(0)),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            });
            match stepped {
                Ok(Some(rowid)) => {
                    self.last = by_rowid.then_some(rowid);
                    self.count += 1;
                    return Ok(true);
                }
                Ok(None) => return Ok(false),
                Err(error) => {
                    if !self.cannot_step(&error)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn value(&mut self, column: usize) -> Result<Value<'_>, Error> {
        let Some(running) = &self.running else { return Ok(Value::Null) };
        let Some(row) = running.borrow_dependent().get() else { return Ok(Value::Null) };
        let at = self.query.key_columns + column;
        let value = match row.get_ref(at) {
            Ok(value) => value,
            Err(error) => {
                return Err(Error::Read { table: self.relation.name.clone(), detail: error.to_string() });
            }
        };
        let target = self.targets[column];
        match convert(value, target, &*self.source.host.zone, &mut self.scratch) {
            Ok(value) => Ok(value),
            Err(problem) => {
                let error = Error::Value(Box::new(BadValue {
                    table: self.relation.name.clone(),
                    row: row_name(running, &self.relation.key, self.count),
                    column: self.scan.columns[column].0.clone(),
                    wanted: target.of.to_string(),
                    value: tell(value),
                    problem,
                }));
                self.losses.null(error, self.scan.on_error)
            }
        }
    }

    fn row_name(&self) -> String {
        match &self.running {
            Some(running) => row_name(running, &self.relation.key, self.count),
            None => String::new(),
        }
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }

    fn losses_mut(&mut self) -> &mut Losses {
        &mut self.losses
    }

    fn rescan(&mut self, operands: &[Operand]) -> Result<(), Error> {
        self.scan.operands = operands.to_vec();
        self.count = 0;
        self.last = None;
        let query = build(&self.relation, &self.scan, self.source.invalid_text, None);
        let same = query.sql == self.query.sql;
        self.query = query;
        let running = match self.running.take().map(|running| running.into_owner().into_inner()) {
            Some(prepared) if same => self.start(prepared),
            Some(prepared) => self.run(prepared.into_owner()),
            // It ended at what cannot be read.
            None => self.run(self.source.open()?),
        };
        self.running = Some(running?);
        Ok(())
    }
}
