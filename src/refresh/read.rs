//! The first phase: which rows, and what their texts are.

use std::collections::HashSet;
use std::ffi::CString;

use super::keyed::Place;
use super::{Batch, Job, Key, Pending, State, Statements};
use crate::attachment::target::Target;
use crate::error::Error;
use crate::pg::exact::Exact;
use crate::pg::memory::Scratch;
use crate::pg::row::Row;
use crate::pg::statement::Answer;
use crate::pg::table::{Table, quote_identifier, quote_literal};
use crate::pg::transaction::attempt;

/// Bytes of texts that are taken at once, a single longer one apart.
pub(super) const MOST_BYTES: usize = 8 << 20;
/// What a row takes beside its text, roughly.
pub(super) const ROW_BYTES: usize = 256;

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

/// Keys that rows are looked for by, in order.
pub(super) struct LookedFor<'a> {
    keys: &'a [Key],
    /// Those before it have been looked for.
    next: usize,
    found: HashSet<Key>,
}

impl<'a> LookedFor<'a> {
    pub(super) fn new(keys: &'a [Key]) -> Self {
        Self { keys, next: 0, found: HashSet::new() }
    }

    /// The key by which a row was looked for, which may be written in another way than its own: 1.0 equals 1.00. `None`
    /// if it was found already by such a key. Keys that were passed over are gone.
    pub(super) fn find(&mut self, place: usize, own: Key, gone: &mut Vec<Key>) -> Result<Option<Key>, Error> {
        if self.keys.is_empty() {
            return Ok(Some(own));
        }
        // An equality that is none may find more than one row by a key.
        let unordered = Error::Internal("a key was found twice");
        let passed = self.keys.get(self.next..place).ok_or(unordered)?;
        gone.extend_from_slice(passed);
        self.next = place + 1;
        let key = self.keys.get(place).ok_or(Error::Internal("a row was found by no key"))?;
        Ok(self.found.insert(own).then(|| key.clone()))
    }

    /// Those that have not been looked for, or by which there is nothing.
    pub(super) fn rest(&self) -> &'a [Key] {
        self.keys.get(self.next..).unwrap_or_default()
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

impl Pending {
    fn bytes(&self) -> usize {
        match &self.state {
            State::Text(text) => ROW_BYTES + text.len(),
            _ => ROW_BYTES,
        }
    }
}

impl Statements<'_> {
    /// Reads rows together, or else one by one, so that a text that cannot even be read fails alone.
    fn read(&self, which: Which<'_>) -> Result<Batch, Error> {
        let (place, need, keys, limit) = which.place();
        let needs = need.map_or(Ok("true".to_owned()), |need| self.needs(need))?;
        if let Ok(batch) = attempt(|| self.take(self.select(place, &needs)?, keys, limit)) {
            return Ok(batch);
        }
        let mut batch = self.batch();
        let mut looked = LookedFor::new(keys);
        let mut answer = self.keyed.select(place, "true", &needs)?;
        let mut bytes = 0;
        while let Some(row) = answer.next_row() {
            if bytes >= MOST_BYTES {
                batch.is_cut = true;
                return Ok(batch);
            }
            let (place, key) = self.keyed.place_and_key(row)?;
            let Some(key) = looked.find(place, key, &mut batch.gone)? else { continue };
            let one = std::slice::from_ref(&key);
            let read = attempt(|| self.take(self.select(Place::Keys(one), "true")?, one, 1));
            match read {
                Ok(read) => {
                    bytes += read.rows.iter().map(Pending::bytes).sum::<usize>();
                    batch.rows.extend(read.rows);
                }
                Err(failure) => batch.rows.push(Pending {
                    key,
                    fingerprint: CString::default(),
                    state: State::Failed(failure),
                }),
            }
        }
        batch.gone.extend_from_slice(looked.rest());
        batch.is_cut = batch.rows.len() >= limit;
        Ok(batch)
    }

    fn select(&self, place: Place<'_>, needs: &str) -> Result<Answer, Error> {
        let columns = format!("{}, {}", self.fingerprint(), self.sources().join(", "));
        self.keyed.select(place, &columns, needs)
    }

    /// No rows yet.
    fn batch(&self) -> Batch {
        let (rows, gone) = (Vec::new(), Vec::new());
        Batch { rows, gone, is_cut: false, target: self.target.clone(), table: self.table().name() }
    }

    /// Takes as many rows as may be taken at once.
    fn take(&self, mut answer: Answer, keys: &[Key], limit: usize) -> Result<Batch, Error> {
        let in_answer = self.target.read_from(self.keyed.key.len() as i16 + 3);
        let mut batch = self.batch();
        let mut scratch = Scratch::new();
        let mut bytes = 0;
        let mut looked = LookedFor::new(keys);
        while let Some(row) = answer.next_row() {
            if bytes >= MOST_BYTES {
                batch.is_cut = true;
                break;
            }
            let (place, pending) = scratch.within(|| self.pending(row, &in_answer))?;
            scratch.reset();
            let Some(key) = looked.find(place, pending.key, &mut batch.gone)? else { continue };
            let pending = Pending { key, ..pending };
            bytes += pending.bytes();
            batch.rows.push(pending);
        }
        if !batch.is_cut {
            batch.gone.extend_from_slice(looked.rest());
            batch.is_cut = batch.rows.len() >= limit;
        }
        Ok(batch)
    }

    fn pending(&self, row: Row<'_>, target: &Target) -> Result<(usize, Pending), Error> {
        let (place, key) = self.keyed.place_and_key(row)?;
        let fingerprint = row
            .raw(self.keyed.key.len() as i16 + 2)
            .ok_or(Error::Internal("a row is not as it was asked for"))?;
        let state = match target.text(row) {
            Ok(Some(text)) => State::Text(text.into_string()),
            Ok(None) => State::Null,
            Err(error) => State::Failed(error.failure()),
        };
        Ok((place, Pending { key, fingerprint, state }))
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
