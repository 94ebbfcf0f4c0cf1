//! The third phase: vectors go to the rows that are as they were read.

use super::{Batch, Job, Key, Locking, Outcome, Pending, State, Statements};
use crate::error::{Error, TableFault};
use crate::pg::exact::Exact;
use crate::pg::memory::Scratch;
use crate::pg::spi;
use crate::pg::statement::{Cell, CellKind, Command};
use crate::pg::table::{Table, quote_identifier, quote_literal};
use crate::pg::transaction::attempt;
use crate::pg::vector::Vector;

impl Job {
    /// Writes vectors. Needs a transaction; what is written is there when it has been committed.
    pub(crate) fn write(&self, batch: Batch, locking: Locking) -> Result<Vec<(Key, Outcome)>, Error> {
        let table = Table::open_to_write_rows(self.relation)?;
        let statements = Statements::new(&table, self)?;
        let _exact = Exact::new();
        fire_at_once()?;
        let Batch { rows, gone, .. } = batch;
        let (mut ready, mut outcomes) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            match row.state {
                State::Failed(failure) => outcomes.push((row.key, Outcome::Failed(failure))),
                _ => ready.push(row),
            }
        }
        let written = in_pieces(&ready, &mut |rows| statements.write_together(rows, locking));
        outcomes.extend(ready.into_iter().map(|row| row.key).zip(written));
        outcomes.extend(gone.into_iter().map(|key| (key, Outcome::Gone)));
        Ok(outcomes)
    }
}

impl Statements<'_> {
    fn write_together(&self, rows: &[Pending], locking: Locking) -> Result<Vec<Outcome>, Error> {
        let outcomes = {
            let known = rows.iter().map(|row| (&row.key, row.fingerprint.as_c_str()));
            self.keyed.lock(known, &self.fingerprint(), locking)?
        };
        let vector = CellKind::Vector(self.target.embedding.vector_type());
        let mut written = self.keyed.rows(&[("computed", vector)]);
        let mut scratch = Scratch::new();
        for (place, (row, _)) in
            rows.iter().zip(&outcomes).enumerate().filter(|(_, (_, outcome))| **outcome == Outcome::Written)
        {
            scratch.within(|| {
                let vector = match &row.state {
                    State::Vector(numbers) => Cell::Vector(Vector::from_le_bytes(numbers)),
                    _ => Cell::Null,
                };
                let cells: Vec<Cell<'_>> = row.key.cells(place).chain([vector]).collect();
                written.put(&cells);
            });
            scratch.reset();
        }
        if written.count() == 0 {
            return Ok(outcomes);
        }
        match written.execute(self.table().owner(), &self.update()?, Command::Update) {
            Some(count) if count == written.count() => {}
            Some(count) => {
                let rows = written.count().saturating_sub(count);
                return Err(self.table().unfit(TableFault::Suppressed { rows }));
            }
            None => return Err(self.table().unfit(TableFault::Rules)),
        }
        Ok(outcomes)
    }

    fn update(&self) -> Result<String, Error> {
        let provenance = match (&self.job.provenance, &self.job.hash) {
            (Some(column), Some(hash)) => {
                self.table().hash_column(&self.table().column(column)?)?;
                format!(
                    ", {} = CASE WHEN v.computed IS NULL THEN NULL ELSE {} END",
                    quote_identifier(column),
                    quote_literal(hash)
                )
            }
            _ => String::new(),
        };
        Ok(format!(
            "UPDATE {} SET {} = v.computed{provenance} FROM vector_embed_rows AS v WHERE {}",
            self.keyed.from(),
            self.table().quoted_column(self.target.embedding.number),
            self.keyed.is_named(),
        ))
    }
}

/// Has deferred triggers fire with the statement: so the row that they object to fails alone, and they run as whoever
/// writes, not as whoever commits.
pub(super) fn fire_at_once() -> Result<(), Error> {
    spi::execute("SET CONSTRAINTS ALL IMMEDIATE")
}

/// What becomes of rows: all at once, or else in halves, down to the row that is at fault.
pub(super) fn in_pieces<R, W>(rows: &[R], work: &mut W) -> Vec<Outcome>
where
    W: FnMut(&[R]) -> Result<Vec<Outcome>, Error>,
{
    if rows.is_empty() {
        return Vec::new();
    }
    match attempt(|| work(rows)) {
        Ok(outcomes) => outcomes,
        // Not one by one: each would wait as long again, and others for all of them.
        Err(failure) if failure.is_lock_timeout() => vec![Outcome::Locked; rows.len()],
        Err(failure) if rows.len() == 1 && failure.is_conflict() => vec![Outcome::Locked],
        Err(failure) if rows.len() == 1 => vec![Outcome::Failed(failure)],
        Err(_) => {
            let (one, two) = rows.split_at(rows.len() / 2);
            let mut outcomes = in_pieces(one, work);
            outcomes.extend(in_pieces(two, work));
            outcomes
        }
    }
}
