//! The first phase: which rows, and what their texts are.

use super::{Batch, Job, Key, Pending, State, Statements};
use crate::attachment::target::Target;
use crate::error::Error;
use crate::pg::exact::Exact;
use crate::pg::memory::Scratch;
use crate::pg::row::Row;
use crate::pg::statement::Answer;
use crate::pg::table::{Table, quote_identifier, quote_literal};

/// Bytes of texts that are taken at once, a single longer one apart.
const MOST_BYTES: usize = 8 << 20;

/// Which rows are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    /// Those with these keys, which are distinct; if something is needed, only those that lack it, as if there were no
    /// others.
    Keys(&'a [Key], Option<Need>),
    /// At most so many in the order of the key, behind this one.
    Next { after: Option<&'a Key>, need: Need, limit: usize },
}

/// What rows lack that are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A vector, though they have text.
    Vector,
    /// The model's vector, though they have text: any row does, unless its provenance tells.
    Renewal,
}

impl Job {
    /// Reads rows. Needs a transaction.
    pub(crate) fn read(&self, which: Which<'_>) -> Result<Batch, Error> {
        let table = Table::open_briefly(self.relation)?;
        let statements = Statements::new(&table, self)?;
        let _exact = match which {
            Which::Keys(..) => Exact::new(),
            Which::Next { .. } => Exact::in_order(),
        };
        statements.read(which)
    }

    /// How many rows need something.
    pub(crate) fn count(&self, need: Need) -> Result<i64, Error> {
        let table = Table::open_briefly(self.relation)?;
        let statements = Statements::new(&table, self)?;
        let rows = statements.rows(&[]);
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {} WHERE {}",
            statements.from(),
            statements.needs(need)?
        );
        let mut answer = rows.query(table.owner(), &sql)?;
        let count = answer.next().transpose()?.and_then(|row| row.into_iter().next().flatten());
        count.and_then(|count| count.parse().ok()).ok_or(Error::Internal("a count gave no row"))
    }
}

impl Statements<'_> {
    fn read(&self, which: Which<'_>) -> Result<Batch, Error> {
        let mut named = self.rows(&[]);
        let columns =
            format!("{}, {}, {}", self.key_columns(), self.fingerprint(), self.sources().join(", "));
        let (sql, keys, limit) = match which {
            Which::Keys(keys, need) => {
                for (place, key) in keys.iter().enumerate() {
                    named.put(&key.cells(place).collect::<Vec<_>>());
                }
                let needs = need.map_or(Ok("true".to_owned()), |need| self.needs(need))?;
                let join = format!("vector_embed_rows AS v JOIN {} ON {}", self.from(), self.is_named());
                let sql = format!("SELECT v.place, {columns} FROM {join} WHERE {needs} ORDER BY v.place");
                (sql, keys, usize::MAX)
            }
            Which::Next { after, need, limit } => {
                let mut clauses = vec![self.needs(need)?];
                if let Some(after) = after {
                    named.put(&after.cells(0).collect::<Vec<_>>());
                    let values: Vec<String> = self
                        .key_values()
                        .iter()
                        .map(|value| format!("(SELECT {value} FROM vector_embed_rows AS v)"))
                        .collect();
                    clauses.push(self.table.key_follows(&self.key, "t", &values)?);
                }
                let sql = format!(
                    "SELECT 0, {columns} FROM {} WHERE {} ORDER BY {} LIMIT {limit}",
                    self.from(),
                    clauses.join(" AND "),
                    self.table.key_order(&self.key, "t")?,
                );
                (sql, [].as_slice(), limit)
            }
        };
        let answer = named.query(self.table.owner(), &sql)?;
        self.take(answer, keys, limit)
    }

    /// Takes as many rows as may be taken at once.
    fn take(&self, mut answer: Answer, keys: &[Key], limit: usize) -> Result<Batch, Error> {
        let in_answer = self.target.read_from(self.key.len() as i16 + 3);
        let mut batch = Batch {
            rows: Vec::new(),
            gone: Vec::new(),
            is_cut: false,
            target: self.target.clone(),
            table: self.table.name(),
        };
        let mut scratch = Scratch::new();
        let mut bytes = 0;
        // Keys up to here have been looked for.
        let mut looked_for = 0;
        while let Some(row) = answer.next_row() {
            if bytes >= MOST_BYTES {
                batch.is_cut = true;
                break;
            }
            let (place, pending) = scratch.within(|| self.pending(row, &in_answer))?;
            scratch.reset();
            if let State::Text(text) = &pending.state {
                bytes += text.len();
            }
            if !keys.is_empty() {
                batch.gone.extend_from_slice(&keys[looked_for..place]);
                looked_for = place + 1;
            }
            batch.rows.push(pending);
        }
        if !batch.is_cut {
            batch.gone.extend_from_slice(keys.get(looked_for..).unwrap_or_default());
            batch.is_cut = batch.rows.len() >= limit;
        }
        Ok(batch)
    }

    fn pending(&self, row: Row<'_>, target: &Target) -> Result<(usize, Pending), Error> {
        let missing = || Error::Internal("a row is not as it was asked for");
        let place = row.written(1)?.and_then(|place| place.parse().ok()).ok_or_else(missing)?;
        let last = self.key.len() as i16 + 1;
        let key = (2..=last).map(|number| row.raw(number)).collect::<Option<Vec<_>>>().ok_or_else(missing)?;
        let fingerprint = row.raw(last + 1).ok_or_else(missing)?;
        let state = match target.text(row) {
            Ok(Some(text)) => State::Text(text.into_string()),
            Ok(None) => State::Null,
            Err(error) => State::Failed(error.failure()),
        };
        Ok((place, Pending { key: Key(key), fingerprint, state }))
    }

    /// That `t` lacks something.
    fn needs(&self, need: Need) -> Result<String, Error> {
        let has_text =
            format!("pg_catalog.num_nonnulls({}) OPERATOR(pg_catalog.>) 0", self.sources().join(", "));
        let lacks_vector = format!("{} IS NULL", self.embedding());
        Ok(match (need, &self.job.provenance, &self.job.hash) {
            (Need::Vector, _, _) => format!("{has_text} AND {lacks_vector}"),
            (Need::Renewal, Some(provenance), Some(hash)) => {
                self.table.column(provenance)?;
                let (provenance, hash) = (quote_identifier(provenance), quote_literal(hash));
                format!(
                    "{has_text} AND ({lacks_vector} OR \
                     COALESCE(t.{provenance}::pg_catalog.text, '') OPERATOR(pg_catalog.<>) {hash})"
                )
            }
            (Need::Renewal, _, _) => has_text,
        })
    }
}
