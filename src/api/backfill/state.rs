//! How far a backfill has come. It is kept in a table of the extension's, and written in the transaction that writes the
//! vectors: so it is true after any crash. It is not dumped. Where it is lost, the next backfill begins with the first
//! row, and finds those that have their vectors already.

use std::ffi::CString;

use pgrx::pg_sys;

use crate::error::Error;
use crate::pg::lookup::next_value;
use crate::pg::statement::{Cell, CellKind, Command, Rows};
use crate::pg::table::Table;
use crate::pg::transaction::lock_work;
use crate::refresh::Key;

const SCHEMA: &str = "vector_embed";
const TABLE: &str = "backfill_state";
const SEQUENCE: &str = "backfill_state_id_seq";

/// What a backfill is for: another may go on where one of the same work was interrupted.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) relation: pg_sys::Oid,
    pub(super) embedding: String,
    pub(super) model: String,
    pub(super) stale: bool,
    /// All else that it depends on.
    pub(super) details: String,
}

/// A backfill that is under way.
#[derive(Debug)]
pub(super) struct Run {
    id: u32,
    /// The state's table and its owner, whose privileges count: nobody else may write to it.
    table: pg_sys::Oid,
    owner: pg_sys::Oid,
}

/// What is written of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress<'a> {
    pub(super) after: Option<&'a Key>,
    pub(super) done: u64,
    pub(super) failed: u64,
}

/// Forgets all that there is of a column.
pub(super) fn forget(relation: pg_sys::Oid, embedding: &str) -> Result<(), Error> {
    let (_, owner) = table()?;
    let mut row = Rows::new([("relation", CellKind::Text), ("embedding", CellKind::Text)]);
    row.put(&[Cell::Text(&relation.to_u32().to_string()), Cell::Text(embedding)]);
    row.execute(
        owner,
        "DELETE FROM vector_embed.backfill_state AS s USING vector_embed_rows AS v \
         WHERE s.relation OPERATOR(pg_catalog.=) v.relation::pg_catalog.oid \
         AND s.embedding OPERATOR(pg_catalog.=) v.embedding",
        Command::Delete,
    );
    Ok(())
}

fn missing() -> Error {
    Error::Internal("the table of backfills is not there")
}

/// The state's table and its owner.
fn table() -> Result<(pg_sys::Oid, pg_sys::Oid), Error> {
    let table = Table::find(SCHEMA, TABLE).ok_or_else(missing)?;
    Ok((table, Table::open_briefly(table)?.owner()))
}

impl Run {
    /// Begins, or goes on from the key that is returned, where another has been interrupted. One that renews vectors and has
    /// left rows behind begins with the first row: nothing else tells which of them have the old model's.
    pub(super) fn begin(work: &Work, total: i64) -> Result<(Self, Option<Key>), Error> {
        let (table, owner) = table()?;
        let run = |id| Self { id, table, owner };
        let nothing = Rows::new([("nothing", CellKind::Int)]);
        nothing.execute(
            owner,
            "DELETE FROM vector_embed.backfill_state AS s WHERE NOT EXISTS \
             (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) s.relation)",
            Command::Delete,
        );
        let number = |number: u32| number.to_string();
        let (relation, stale) = (number(work.relation.to_u32()), work.stale);
        let mut wanted = Rows::new([
            ("id", CellKind::Text),
            ("relation", CellKind::Text),
            ("embedding", CellKind::Text),
            ("model", CellKind::Text),
            ("stale", CellKind::Bool),
            ("details", CellKind::Text),
            ("total", CellKind::Text),
        ]);
        let total = total.to_string();
        let mut cells = [
            Cell::Null,
            Cell::Text(&relation),
            Cell::Text(&work.embedding),
            Cell::Text(&work.model),
            Cell::Bool(stale),
            Cell::Text(&work.details),
            Cell::Text(&total),
        ];
        wanted.put(&cells);
        let interrupted: Vec<u32> = wanted
            .query(
                owner,
                "SELECT s.id FROM vector_embed.backfill_state AS s JOIN vector_embed_rows AS v \
                 ON s.relation OPERATOR(pg_catalog.=) v.relation::pg_catalog.oid \
                 AND s.embedding OPERATOR(pg_catalog.=) v.embedding AND s.model OPERATOR(pg_catalog.=) v.model \
                 AND s.stale OPERATOR(pg_catalog.=) v.stale AND s.details OPERATOR(pg_catalog.=) v.details \
                 ORDER BY s.updated_at DESC",
            )?
            .filter_map(|row| row.ok()?.first()?.as_ref()?.parse().ok())
            .collect();
        // Those of other columns' texts or of another model are nobody's any more.
        let others = wanted.query(
            owner,
            "SELECT s.id FROM vector_embed.backfill_state AS s JOIN vector_embed_rows AS v \
             ON s.relation OPERATOR(pg_catalog.=) v.relation::pg_catalog.oid \
             AND s.embedding OPERATOR(pg_catalog.=) v.embedding AND s.stale OPERATOR(pg_catalog.=) v.stale \
             AND NOT (s.model OPERATOR(pg_catalog.=) v.model AND s.details OPERATOR(pg_catalog.=) v.details)",
        )?;
        let others: Vec<u32> = others.filter_map(|row| row.ok()?.first()?.as_ref()?.parse().ok()).collect();
        others.into_iter().map(run).filter(Self::lock).for_each(|other| other.end());
        if let Some(id) = interrupted.into_iter().find(|id| run(*id).lock()) {
            let run = run(id);
            let after = run.after()?;
            run.write(
                &[("total", Cell::Text(&total))],
                "started_at = pg_catalog.clock_timestamp(), updated_at = pg_catalog.clock_timestamp(), \
                 pid = pg_catalog.pg_backend_pid(), done = 0, failed = 0, total = v.total::pg_catalog.int8, \
                 after_key = CASE WHEN s.stale AND s.failed OPERATOR(pg_catalog.>) 0 THEN NULL ELSE s.after_key END",
            );
            return Ok((run, after));
        }
        let sequence = Table::find(SCHEMA, SEQUENCE).ok_or_else(missing)?;
        let id = u32::try_from(next_value(sequence)).map_err(|_| Error::Internal("a number is too large"))?;
        let new = run(id);
        let written = number(id);
        cells[0] = Cell::Text(&written);
        let mut row = Rows::new([
            ("id", CellKind::Text),
            ("relation", CellKind::Text),
            ("embedding", CellKind::Text),
            ("model", CellKind::Text),
            ("stale", CellKind::Bool),
            ("details", CellKind::Text),
            ("total", CellKind::Text),
        ]);
        row.put(&cells);
        row.execute(
            owner,
            "INSERT INTO vector_embed.backfill_state (id, relation, embedding, model, stale, details, total) \
             SELECT v.id::pg_catalog.int8, v.relation::pg_catalog.oid, v.embedding, v.model, v.stale, v.details, \
             v.total::pg_catalog.int8 FROM vector_embed_rows AS v",
            Command::Insert,
        );
        new.lock();
        Ok((new, None))
    }

    /// Tells others, until the transaction ends, that this is under way.
    pub(super) fn lock(&self) -> bool {
        lock_work(self.table, self.id)
    }

    /// Notes how far it has come.
    pub(super) fn note(&self, progress: Progress<'_>) {
        let (done, failed) = (progress.done.to_string(), progress.failed.to_string());
        let names: Vec<String> =
            (0..progress.after.map_or(0, |key| key.0.len())).map(|place| format!("k{place}")).collect();
        let key = progress.after.map_or([].as_slice(), |key| key.0.as_slice());
        let cells: Vec<(&str, Cell<'_>)> = [("done", Cell::Text(&done)), ("failed", Cell::Text(&failed))]
            .into_iter()
            .chain(names.iter().map(String::as_str).zip(key.iter().map(|value| Cell::Raw(value))))
            .collect();
        let values: Vec<String> = names.iter().map(|name| format!("v.{name}")).collect();
        let after =
            if values.is_empty() { "NULL".to_owned() } else { format!("ARRAY[{}]", values.join(", ")) };
        self.write(
            &cells,
            &format!(
                "done = v.done::pg_catalog.int8, failed = v.failed::pg_catalog.int8, after_key = {after}, \
                 updated_at = pg_catalog.clock_timestamp()"
            ),
        );
    }

    /// Forgets it.
    pub(super) fn end(&self) {
        let row = self.row(&[]);
        row.execute(
            self.owner,
            "DELETE FROM vector_embed.backfill_state AS s USING vector_embed_rows AS v WHERE s.id \
             OPERATOR(pg_catalog.=) v.id::pg_catalog.int8",
            Command::Delete,
        );
    }

    fn after(&self) -> Result<Option<Key>, Error> {
        let row = self.row(&[]);
        let mut answer = row.query(
            self.owner,
            "SELECT k.value FROM vector_embed_rows AS v JOIN vector_embed.backfill_state AS s \
             ON s.id OPERATOR(pg_catalog.=) v.id::pg_catalog.int8 \
             CROSS JOIN LATERAL pg_catalog.unnest(s.after_key) WITH ORDINALITY AS k (value, place) \
             WHERE NOT (s.stale AND s.failed OPERATOR(pg_catalog.>) 0) ORDER BY k.place",
        )?;
        let mut values: Vec<CString> = Vec::new();
        while let Some(row) = answer.next_row() {
            values.extend(row.raw(1));
        }
        Ok((!values.is_empty()).then_some(Key(values)))
    }

    fn row(&self, more: &[(&str, Cell<'_>)]) -> Rows {
        let columns = [("id", CellKind::Text)];
        let columns = columns.into_iter().chain(more.iter().map(|(name, _)| (*name, CellKind::Text)));
        let mut row = Rows::new(columns);
        let id = self.id.to_string();
        let cells: Vec<Cell<'_>> =
            [Cell::Text(&id)].into_iter().chain(more.iter().map(|(_, cell)| *cell)).collect();
        row.put(&cells);
        row
    }

    fn write(&self, cells: &[(&str, Cell<'_>)], assignments: &str) {
        let sql = format!(
            "UPDATE vector_embed.backfill_state AS s SET {assignments} FROM vector_embed_rows AS v \
             WHERE s.id OPERATOR(pg_catalog.=) v.id::pg_catalog.int8"
        );
        self.row(cells).execute(self.owner, &sql, Command::Update);
    }
}
