//! The first phase: which rows, and what their texts are.

use super::keyed::Place;
use super::{Batch, Job, Key, Pending, State, Statements};
use crate::attachment::target::Target;
use crate::error::Error;
use crate::pg::exact::Exact;
use crate::pg::memory::Scratch;
use crate::pg::row::Row;
use crate::pg::statement::Answer;
use crate::pg::table::{Table, quote_identifier, quote_literal};

/// Bytes of texts that are taken at once, a single longer one apart.
pub(super) const MOST_BYTES: usize = 8 << 20;

/// Which rows are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    /// Those with these keys, which are distinct; if something is needed, only those that lack it, as if there were no
    /// others.
    Keys(&'a [Key], Option<Need>),
    /// At most so many in the order of the key, behind this one.
    Next { after: Option<&'a Key>, need: Need, limit: usize },
}

impl<'a> Which<'a> {
    /// Where to look and for what; the keys that are looked for; how many rows there are at most.
    pub(super) fn place(self) -> (Place<'a>, Option<Need>, &'a [Key], usize) {
        match self {
            Self::Keys(keys, need) => (Place::Keys(keys), need, keys, usize::MAX),
            Self::Next { after, need, limit } => (Place::After(after, limit), Some(need), &[], limit),
        }
    }

    /// The settings under which they are read.
    pub(super) fn exact(self) -> Exact {
        match self {
            Self::Keys(..) => Exact::new(),
            Self::Next { .. } => Exact::in_order(),
        }
    }
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
        let _exact = which.exact();
        statements.read(which)
    }

    /// How many rows need something.
    pub(crate) fn count(&self, need: Need) -> Result<i64, Error> {
        let table = Table::open_briefly(self.relation)?;
        let statements = Statements::new(&table, self)?;
        statements.keyed.count(&statements.needs(need)?)
    }
}

impl Statements<'_> {
    fn read(&self, which: Which<'_>) -> Result<Batch, Error> {
        let columns = format!("{}, {}", self.fingerprint(), self.sources().join(", "));
        let (place, need, keys, limit) = which.place();
        let needs = need.map_or(Ok("true".to_owned()), |need| self.needs(need))?;
        self.take(self.keyed.select(place, &columns, &needs)?, keys, limit)
    }

    /// Takes as many rows as may be taken at once.
    fn take(&self, mut answer: Answer, keys: &[Key], limit: usize) -> Result<Batch, Error> {
        let in_answer = self.target.read_from(self.keyed.key.len() as i16 + 3);
        let mut batch = Batch {
            rows: Vec::new(),
            gone: Vec::new(),
            is_cut: false,
            target: self.target.clone(),
            table: self.table().name(),
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
        let last = self.keyed.key.len() as i16 + 1;
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
                self.table().column(provenance)?;
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
