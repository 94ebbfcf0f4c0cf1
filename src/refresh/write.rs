//! The third phase: vectors go to the rows that are as they were read.

use super::{Batch, Job, Key, Locking, Outcome, Pending, State, Statements};
use crate::error::{Error, TableFault};
use crate::pg::exact::Exact;
use crate::pg::memory::Scratch;
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
        let Batch { rows, gone, .. } = batch;
        let (mut ready, mut outcomes) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        for row in rows {
            match row.state {
                State::Failed(failure) => outcomes.push((row.key, Outcome::Failed(failure))),
                _ => ready.push(row),
            }
        }
        let written = statements.write(&ready, locking);
        outcomes.extend(ready.into_iter().map(|row| row.key).zip(written));
        outcomes.extend(gone.into_iter().map(|key| (key, Outcome::Gone)));
        Ok(outcomes)
    }
}

impl Statements<'_> {
    /// What becomes of these rows: all at once, or else in halves, down to the row that is at fault.
    fn write(&self, rows: &[Pending], locking: Locking) -> Vec<Outcome> {
        if rows.is_empty() {
            return Vec::new();
        }
        match attempt(|| self.write_together(rows, locking)) {
            Ok(outcomes) => outcomes,
            Err(failure) if rows.len() == 1 && failure.is_conflict() => vec![Outcome::Locked],
            Err(failure) if rows.len() == 1 => vec![Outcome::Failed(failure)],
            Err(_) => {
                let (one, two) = rows.split_at(rows.len() / 2);
                let mut outcomes = self.write(one, locking);
                outcomes.extend(self.write(two, locking));
                outcomes
            }
        }
    }

    fn write_together(&self, rows: &[Pending], locking: Locking) -> Result<Vec<Outcome>, Error> {
        let mut outcomes = self.lock(rows, locking)?;
        let vector = CellKind::Vector(self.target.embedding.vector_type());
        let mut written = self.rows(&[("computed", vector)]);
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
        match written.execute(self.table.owner(), &self.update()?, Command::Update) {
            Some(count) if count == written.count() => {}
            Some(count) => {
                let rows = written.count().saturating_sub(count);
                return Err(self.table.unfit(TableFault::Suppressed { rows }));
            }
            None => return Err(self.table.unfit(TableFault::Rules)),
        }
        outcomes.truncate(rows.len());
        Ok(outcomes)
    }

    /// Locks the rows in the order in which they were read. [`Outcome::Written`] is what may be written.
    fn lock(&self, rows: &[Pending], locking: Locking) -> Result<Vec<Outcome>, Error> {
        let mut named = self.rows(&[("fingerprint", CellKind::Text)]);
        for (place, row) in rows.iter().enumerate() {
            let cells: Vec<Cell<'_>> = row.key.cells(place).chain([Cell::Raw(&row.fingerprint)]).collect();
            named.put(&cells);
        }
        let skip = match locking {
            Locking::Skip => " SKIP LOCKED",
            Locking::Wait => "",
        };
        let join = format!("FROM vector_embed_rows AS v JOIN {} ON {}", self.from(), self.is_named());
        let lock = format!(
            "SELECT v.place, {} OPERATOR(pg_catalog.=) v.fingerprint {join} \
             ORDER BY v.place FOR NO KEY UPDATE OF t{skip}",
            self.fingerprint(),
        );
        let mut outcomes = vec![Outcome::Gone; rows.len()];
        let owner = self.table.owner();
        for row in named.query(owner, &lock)? {
            let (place, same) = pair(&row?)?;
            outcomes[place] = if same { Outcome::Written } else { Outcome::Changed };
        }
        if locking == Locking::Skip && outcomes.contains(&Outcome::Gone) {
            for row in named.query(owner, &format!("SELECT v.place, true {join}"))? {
                let (place, _) = pair(&row?)?;
                if outcomes[place] == Outcome::Gone {
                    outcomes[place] = Outcome::Locked;
                }
            }
        }
        Ok(outcomes)
    }

    fn update(&self) -> Result<String, Error> {
        let provenance = match (&self.job.provenance, &self.job.hash) {
            (Some(column), Some(hash)) => {
                self.table.column(column)?;
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
            self.from(),
            self.table.quoted_column(self.target.embedding.number),
            self.is_named(),
        ))
    }
}

fn pair(row: &[Option<String>]) -> Result<(usize, bool), Error> {
    match row {
        [Some(place), same] => {
            let place = place.parse().map_err(|_| Error::Internal("a place is no number"))?;
            Ok((place, same.as_deref() == Some("t")))
        }
        _ => Err(Error::Internal("a row is not as it was asked for")),
    }
}
