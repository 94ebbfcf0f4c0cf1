//! What a worker does with items: takes them, deletes them, and notes what went wrong with others.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Queue, nothing, number};
use crate::error::{Error, Failure, TableFault};
use crate::pg::exact::Exact;
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
const LOCKED_PAUSES: [i64; 2] = [1, 60];

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

/// What is to be done about an item.
#[derive(Debug, Clone)]
pub(crate) enum Todo {
    /// It is done: the vector is there, or nobody needs it any more.
    Done,
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
        let keys = self.first_keys(most)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut items = self.items_of(keys, most.saturating_mul(LOOK_AHEAD))?;
        self.look_ahead(&mut items)?;
        Ok(items)
    }

    /// The first so many items of those that were never tried and of those whose time has come again: a query of their
    /// numbers, what else is asked for, and their keys.
    fn due(&self, more: &str, limit: usize) -> String {
        let columns = self.key_columns().join(", ");
        let some = |condition: &str, order: &str| {
            format!(
                "(SELECT q.id{more}, {columns} FROM {} WHERE {condition} ORDER BY {order} LIMIT {limit})",
                self.from()
            )
        };
        format!(
            "{} UNION ALL {}",
            // COALESCE for the planner, too: he takes NULLs for few, and joins few rows by comparing each with each.
            some("COALESCE(q.next_try IS NULL, false)", "q.id"),
            some(
                "q.next_try IS NOT NULL AND q.next_try OPERATOR(pg_catalog.<=) pg_catalog.now()",
                "q.next_try, q.id"
            ),
        )
    }

    /// The keys of the first rows, at most so many.
    fn first_keys(&self, most: usize) -> Result<Vec<Key>, Error> {
        let sql = format!("{} ORDER BY 1", self.due("", most.saturating_mul(WRITTEN_TOGETHER)));
        let mut answer = nothing().query(self.table.owner(), &sql)?;
        let (mut keys, mut known) = (Vec::new(), HashSet::new());
        while let Some(row) = answer.next_row() {
            let key =
                (2..self.key.len() as i16 + 2).map(|column| row.raw(column)).collect::<Option<Vec<_>>>();
            let key = Key(key.ok_or(NOT_AS_ASKED)?);
            if known.insert(key.clone()) {
                keys.push(key);
            }
            if keys.len() == most {
                break;
            }
        }
        Ok(keys)
    }

    /// The items of rows with these keys that are among the first so many.
    fn items_of(&self, keys: Vec<Key>, limit: usize) -> Result<Vec<Item>, Error> {
        let place = [("place".to_owned(), CellKind::Int)];
        let mut rows = Queue::rows(place.into_iter().chain(Queue::keys("k", self.key.len())).collect());
        for (place, key) in keys.iter().enumerate() {
            let key = key.0.iter().map(|value| Cell::Raw(value));
            rows.put(&[Cell::Int(place as i32)].into_iter().chain(key).collect::<Vec<_>>());
        }
        let mut items: Vec<Item> =
            keys.into_iter().map(|key| Item { key, ids: Vec::new(), supplied: false, attempts: 0 }).collect();
        // The others are left where they are: there may be tens of thousands.
        let sql = format!(
            "SELECT v.place, q.id, q.supplied, q.attempts FROM ({}) AS q, vector_embed_rows AS v WHERE {} ORDER BY 2",
            self.due(", q.supplied, q.attempts", limit),
            self.is_named("k"),
        );
        let mut answer = rows.query(self.table.owner(), &sql)?;
        while let Some(row) = answer.next_row() {
            let number = |column: i16| {
                row.written(column)?.and_then(|text| text.parse::<i64>().ok()).ok_or(NOT_AS_ASKED)
            };
            let item = items.get_mut(number(1)? as usize).ok_or(NOT_AS_ASKED)?;
            item.ids.push(number(2)?);
            item.supplied = row.written(3)?.as_deref() == Some("t");
            item.attempts = item.attempts.max(number(4)? as i32);
        }
        Ok(items)
    }

    /// Finds out for which rows there are later items that say that the vector was supplied: such as are not taken yet, or
    /// have an equal key that is written in another way.
    fn look_ahead(&self, items: &mut [Item]) -> Result<(), Error> {
        let keys = Queue::keys("k", self.key.len());
        let first = [("place".to_owned(), CellKind::Int), ("id".to_owned(), CellKind::Text)];
        let mut rows = Queue::rows(first.into_iter().chain(keys).collect());
        for (place, item) in items.iter().enumerate() {
            let last = item.ids.last().map(i64::to_string).unwrap_or_default();
            let key = item.key.0.iter().map(|value| Cell::Raw(value));
            let cells: Vec<Cell<'_>> =
                [Cell::Int(place as i32), Cell::Text(&last)].into_iter().chain(key).collect();
            rows.put(&cells);
        }
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

    /// Deletes what is left of earlier failures of rows that are done. They were committed before they were tried, so
    /// that the vector is that of a later text.
    fn delete_failed(&self, items: &[(Item, Todo)]) -> Result<(), Error> {
        let keys = Queue::keys("k", self.key.len());
        let mut rows = Queue::rows([("id".to_owned(), CellKind::Text)].into_iter().chain(keys).collect());
        for (item, todo) in items {
            if let (Todo::Done, Some(last)) = (todo, item.ids.last()) {
                let last = last.to_string();
                let key = item.key.0.iter().map(|value| Cell::Raw(value));
                let cells: Vec<Cell<'_>> = [Cell::Text(&last)].into_iter().chain(key).collect();
                rows.put(&cells);
            }
        }
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
                Todo::Done => {}
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
        let [least, most] = LOCKED_PAUSES;
        let sql = format!(
            "UPDATE {} SET attempts = v.attempts, \
             next_try = COALESCE(pg_catalog.now() OPERATOR(pg_catalog.+) \
             pg_catalog.make_interval(secs => CASE WHEN v.locked THEN LEAST(GREATEST( \
             pg_catalog.date_part('epoch', pg_catalog.now()) OPERATOR(pg_catalog.-) \
             pg_catalog.date_part('epoch', q.queued_at), {least}), {most}) ELSE v.pause END), 'infinity'), \
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
