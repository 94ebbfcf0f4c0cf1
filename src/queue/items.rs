//! What a worker does with items: takes them, deletes them, and notes what went wrong with others.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Queue, nothing, number};
use crate::error::{Error, Failure, TableFault};
use crate::pg::exact::Exact;
use crate::pg::row::Row;
use crate::pg::statement::{Cell, CellKind, Command, Rows};
use crate::pg::text::from_server;
use crate::refresh::Key;

/// How many times as many items are looked at as rows are taken: a row that is written again and again is to be done once,
/// and not once for each batch that its items would fill.
const LOOK_AHEAD: usize = 20;
/// And how many times as many for the rows themselves: a batch is full where each was written so often one after the other.
const WRITTEN_TOGETHER: usize = 4;

const NOT_AS_ASKED: Error = Error::Internal("an item is not as it was asked for");

/// After that many failures a row waits until somebody asks for it.
const MOST_ATTEMPTS: i32 = 10;
/// Time between the first failure and the second attempt, in seconds; it doubles with each further one.
const FIRST_PAUSE: i64 = 10;
/// A row that others have locked is tried again after as long as it has waited, but at least and at most so many seconds
/// later: so the time doubles each time.
const SHORTEST_LOCKED_PAUSE: i64 = 1;
pub(super) const LONGEST_LOCKED_PAUSE: i64 = 60;

/// All items that were read of one row.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) key: Key,
    /// In ascending order.
    ids: Vec<i64>,
    /// Whether the last of them says that the vector was supplied.
    pub(crate) supplied: bool,
    attempts: i32,
}

impl Item {
    /// Adds one that begins in this column of a row, with its number. It may be there already.
    fn add(&mut self, row: Row<'_>, first: i16) -> Result<(), Error> {
        let id = number_in(row, first)?;
        if let Err(place) = self.ids.binary_search(&id) {
            if place == self.ids.len() {
                self.supplied = row.written(first + 1)?.as_deref() == Some("t");
            }
            self.ids.insert(place, id);
            self.attempts = self.attempts.max(number_in(row, first + 2)? as i32);
        }
        Ok(())
    }
}

fn number_in(row: Row<'_>, column: i16) -> Result<i64, Error> {
    row.written(column)?.and_then(|text| text.parse().ok()).ok_or(NOT_AS_ASKED)
}

/// What is to be done about an item.
#[derive(Debug, Clone)]
pub(crate) enum Todo {
    /// It is done: the vector is there, or nobody needs it any more.
    Done,
    /// It is left for the next batch: the row is not what was read.
    Changed,
    /// It is tried again soon: somebody was at the row.
    Later,
    Failed(Failure),
}

impl Queue<'_> {
    /// Takes the items of at most so many rows whose time has come, each row once. What they say holds for rows that are
    /// read with the same snapshot.
    pub(crate) fn take(&self, most: usize) -> Result<Vec<Item>, Error> {
        // Without statistics, as a queue is that is just being filled, the planner would read and sort all of it for each batch.
        let _exact = Exact::in_order();
        let limit = most.saturating_mul(WRITTEN_TOGETHER);
        let mut items = self.first(&self.again(limit), most)?;
        let fresh = self.first(&self.fresh(limit), most)?;
        // Half of a batch for each: thousands of rows that somebody has locked hold up nobody else's.
        items.truncate((most / 2).max(most.saturating_sub(fresh.len())));
        let known: HashSet<Key> = items.iter().map(|item| item.key.clone()).collect();
        let room = most - items.len();
        items.extend(fresh.into_iter().filter(|item| !known.contains(&item.key)).take(room));
        if !items.is_empty() {
            self.add_others(&mut items, most.saturating_mul(LOOK_AHEAD))?;
            self.look_ahead(&mut items)?;
        }
        Ok(items)
    }

    /// A query of the first so many items of those that were never tried.
    fn fresh(&self, limit: usize) -> String {
        self.some("q.next_try IS NULL", "q.id", limit)
    }

    /// The same of those whose time has come again.
    fn again(&self, limit: usize) -> String {
        let is_due = "q.next_try IS NOT NULL AND q.next_try OPERATOR(pg_catalog.<=) pg_catalog.now()";
        self.some(is_due, "q.next_try, q.id", limit)
    }

    fn some(&self, condition: &str, order: &str, limit: usize) -> String {
        let (columns, from) = (self.key_columns().join(", "), self.from());
        format!(
            "(SELECT q.id, q.supplied, q.attempts, {columns} FROM {from} WHERE {condition} \
             ORDER BY {order} LIMIT {limit})"
        )
    }

    /// The rows of the first items that a query gives, at most so many.
    fn first(&self, query: &str, most: usize) -> Result<Vec<Item>, Error> {
        let mut answer = nothing().query(self.table.owner(), query)?;
        let mut places: HashMap<Key, usize> = HashMap::new();
        let mut items: Vec<Item> = Vec::new();
        while items.len() < most
            && let Some(row) = answer.next_row()
        {
            let last = self.key.len() as i16 + 3;
            let key = (4..=last).map(|column| row.raw(column)).collect::<Option<Vec<_>>>();
            let key = Key(key.ok_or(NOT_AS_ASKED)?);
            let place = *places.entry(key.clone()).or_insert_with(|| {
                items.push(Item { key, ids: Vec::new(), supplied: false, attempts: 0 });
                items.len() - 1
            });
            items[place].add(row, 1)?;
        }
        Ok(items)
    }

    /// Adds what else there is of the same rows among the first so many items of both kinds. The others are left where they
    /// are: they may be tens of thousands.
    fn add_others(&self, items: &mut [Item], limit: usize) -> Result<(), Error> {
        let rows = self.rows_of(items.iter());
        let sql = format!(
            "SELECT v.place, q.id, q.supplied, q.attempts FROM ({} UNION ALL {}) AS q, vector_embed_rows AS v \
             WHERE {} ORDER BY 2",
            self.fresh(limit),
            self.again(limit),
            self.is_named("k"),
        );
        let mut answer = rows.query(self.table.owner(), &sql)?;
        while let Some(row) = answer.next_row() {
            items.get_mut(number_in(row, 1)? as usize).ok_or(NOT_AS_ASKED)?.add(row, 2)?;
        }
        Ok(())
    }

    /// Items for a statement: the place of each, the number of its last, and its key.
    fn rows_of<'i>(&self, items: impl Iterator<Item = &'i Item>) -> Rows {
        let first = [("place".to_owned(), CellKind::Int), ("id".to_owned(), CellKind::Text)];
        let mut rows = Queue::rows(first.into_iter().chain(Queue::keys("k", self.key.len())).collect());
        for (place, item) in items.enumerate() {
            let last = item.ids.last().map(i64::to_string).unwrap_or_default();
            let key = item.key.0.iter().map(|value| Cell::Raw(value));
            let cells: Vec<Cell<'_>> =
                [Cell::Int(place as i32), Cell::Text(&last)].into_iter().chain(key).collect();
            rows.put(&cells);
        }
        rows
    }

    /// Finds out for which rows there are later items that say that the vector was supplied: such as are not taken yet, or
    /// have an equal key that is written in another way.
    fn look_ahead(&self, items: &mut [Item]) -> Result<(), Error> {
        let rows = self.rows_of(items.iter());
        let sql = format!(
            "SELECT v.place FROM {}, vector_embed_rows AS v WHERE q.supplied \
             AND q.id OPERATOR(pg_catalog.>) v.id::pg_catalog.int8 AND {}",
            self.from(),
            self.is_named("k"),
        );
        for row in rows.query(self.table.owner(), &sql)? {
            let place = row?.into_iter().next().flatten().and_then(|place| place.parse::<usize>().ok());
            if let Some(item) = place.and_then(|place| items.get_mut(place)) {
                item.supplied = true;
            }
        }
        Ok(())
    }

    /// Does what is to be done about items, in the transaction that has written their vectors.
    pub(crate) fn settle(&self, items: &[(Item, Todo)]) -> Result<(), Error> {
        let _exact = Exact::new();
        self.delete(items)?;
        self.delete_failed(items)?;
        self.update(items)
    }

    /// Deletes exactly the items that were read, but for the last of each row that is not done.
    fn delete(&self, items: &[(Item, Todo)]) -> Result<(), Error> {
        let mut rows = Rows::new([("id", CellKind::Text)]);
        for (item, todo) in items {
            let keep = usize::from(!matches!(todo, Todo::Done));
            for id in &item.ids[..item.ids.len() - keep] {
                rows.put(&[Cell::Text(&id.to_string())]);
            }
        }
        if rows.count() == 0 {
            return Ok(());
        }
        // As an array, which is looked up in the index: a join would hash the whole queue, for each batch anew.
        let sql = format!(
            "DELETE FROM {} WHERE q.id OPERATOR(pg_catalog.=) \
             ANY (ARRAY(SELECT v.id::pg_catalog.int8 FROM vector_embed_rows AS v))",
            self.from()
        );
        if self.run(&rows, &sql, Command::Delete)? < rows.count() {
            self.check_left(&rows, 0)?;
        }
        Ok(())
    }

    /// Fails if there are more of the items than that many, where a trigger has kept others from being deleted or changed:
    /// they would be taken again and again. That somebody has deleted some meanwhile is no fault.
    fn check_left(&self, rows: &Rows, most: u64) -> Result<(), Error> {
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {}, vector_embed_rows AS v \
             WHERE q.id OPERATOR(pg_catalog.=) v.id::pg_catalog.int8",
            self.from()
        );
        let mut answer = rows.query(self.table.owner(), &sql)?;
        let row = answer.next().ok_or(Error::Internal("a count gave no row"))??;
        match (number(row.first())? as u64).saturating_sub(most) {
            0 => Ok(()),
            items => Err(self.table.unfit(TableFault::ItemsStay { items })),
        }
    }

    /// Deletes what is left of earlier failures of rows that were tried again. They were committed before, so that whatever
    /// has become of the row now is that of a later text.
    fn delete_failed(&self, items: &[(Item, Todo)]) -> Result<(), Error> {
        let tried = items.iter().filter(|(_, todo)| !matches!(todo, Todo::Changed));
        let rows = self.rows_of(tried.map(|(item, _)| item));
        if rows.count() == 0 || self.next_try()?.is_none() {
            return Ok(());
        }
        let sql = format!(
            "DELETE FROM {} USING vector_embed_rows AS v WHERE q.next_try IS NOT NULL \
             AND q.id OPERATOR(pg_catalog.<) v.id::pg_catalog.int8 AND {}",
            self.from(),
            self.is_named("k"),
        );
        self.run(&rows, &sql, Command::Delete).map(drop)
    }

    /// Notes what went wrong, and when the row is tried again.
    fn update(&self, items: &[(Item, Todo)]) -> Result<(), Error> {
        let columns = [
            ("id", CellKind::Text),
            ("attempts", CellKind::Int),
            ("locked", CellKind::Bool),
            ("pause", CellKind::Int),
            ("sqlstate", CellKind::Text),
            ("message", CellKind::Text),
        ];
        let mut rows = Rows::new(columns);
        for (item, todo) in items {
            let Some(last) = item.ids.last().map(i64::to_string) else { continue };
            match todo {
                Todo::Done | Todo::Changed => {}
                Todo::Later => rows.put(&[
                    Cell::Text(&last),
                    Cell::Int(item.attempts),
                    Cell::Bool(true),
                    Cell::Null,
                    Cell::Null,
                    Cell::Null,
                ]),
                Todo::Failed(failure) => {
                    let attempts = item.attempts.saturating_add(1);
                    let pause = if attempts < MOST_ATTEMPTS {
                        Cell::Int((FIRST_PAUSE << (attempts - 1)) as i32)
                    } else {
                        Cell::Null
                    };
                    let (state, message) = (failure.sqlstate(), &failure.message);
                    rows.put(&[
                        Cell::Text(&last),
                        Cell::Int(attempts),
                        Cell::Bool(false),
                        pause,
                        Cell::Text(&state),
                        Cell::Text(message),
                    ]);
                }
            }
        }
        if rows.count() == 0 {
            return Ok(());
        }
        let sql = format!(
            "UPDATE {} SET attempts = v.attempts, \
             next_try = COALESCE(pg_catalog.now() OPERATOR(pg_catalog.+) \
             pg_catalog.make_interval(secs => CASE WHEN v.locked THEN LEAST(GREATEST( \
             pg_catalog.date_part('epoch', pg_catalog.now()) OPERATOR(pg_catalog.-) \
             pg_catalog.date_part('epoch', q.queued_at), {SHORTEST_LOCKED_PAUSE}), {LONGEST_LOCKED_PAUSE}) \
             ELSE v.pause END), 'infinity'), \
             sqlstate = COALESCE(v.sqlstate, q.sqlstate), message = COALESCE(v.message, q.message) \
             FROM vector_embed_rows AS v WHERE q.id OPERATOR(pg_catalog.=) v.id::pg_catalog.int8",
            self.from()
        );
        let changed = self.run(&rows, &sql, Command::Update)?;
        if changed < rows.count() {
            self.check_left(&rows, changed)?;
        }
        Ok(())
    }

    fn run(&self, rows: &Rows, sql: &str, command: Command) -> Result<u64, Error> {
        rows.execute(self.table.owner(), sql, command).ok_or_else(|| self.unfit())
    }

    /// When the next of those rows is tried again that wait for it.
    pub(crate) fn next_try(&self) -> Result<Option<SystemTime>, Error> {
        let sql = format!(
            "SELECT pg_catalog.date_part('epoch', q.next_try) FROM {} WHERE q.next_try IS NOT NULL \
             ORDER BY q.next_try LIMIT 1",
            self.from()
        );
        let mut answer = nothing().query(self.table.owner(), &sql)?;
        let Some(row) = answer.next_row() else { return Ok(None) };
        let seconds = row.raw(1).map(|text| from_server(&text)).unwrap_or_default();
        // Infinity is further away than any worker lives.
        let seconds: f64 = seconds.to_lowercase().parse().unwrap_or(f64::INFINITY);
        Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds.clamp(0.0, 1e11))))
    }

    /// Has rows tried again at once that have failed; returns how many.
    pub(crate) fn retry(&self) -> Result<u64, Error> {
        let sql = format!(
            "UPDATE {} SET next_try = pg_catalog.now(), attempts = 0 \
             FROM vector_embed_rows AS v WHERE q.attempts OPERATOR(pg_catalog.>) 0",
            self.from()
        );
        let mut one = nothing();
        one.put(&[Cell::Null]);
        one.execute(self.table.owner(), &sql, Command::Update).ok_or_else(|| self.unfit())
    }
}
