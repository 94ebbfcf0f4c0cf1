//! One attachment's backfill: batch after batch, each read, embedded without a transaction's lock or snapshot, written
//! and committed.

use std::time::{Duration, Instant};

use super::Pace;
use super::state::{Progress, Run, Work};
use super::task::{Taken, Task};
use crate::error::{Error, Failure, rows_of};
use crate::pg::identity::Restricted;
use crate::pg::latch::sleep;
use crate::pg::memory::Scratch;
use crate::pg::table::Table;
use crate::pg::transaction::Committing;
use crate::pg::warning::{self, notice};
use crate::refresh::{Key, Locking, Need, Outcome, Which};

/// How often the client is told.
const TELL: Duration = Duration::from_secs(10);
/// How often rows are tried that others are in the way of, before they are waited for.
const ATTEMPTS: usize = 3;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);

/// What a walk through the table has come to.
#[derive(Debug, Default)]
struct Tally {
    found: u64,
    written: u64,
    failed: u64,
    first: Option<(Key, Failure)>,
    last: Option<Key>,
}

pub(super) struct Runner<'a, T> {
    committing: &'a Committing,
    job: T,
    /// What it is for, and what it looks for now.
    work: Need,
    need: Need,
    pace: Pace,
    run: Run,
    /// Where another has been interrupted.
    after: Option<Key>,
    total: i64,
    begun: Instant,
    told: Instant,
    /// Of all walks.
    written: u64,
    tally: Tally,
    memory: Scratch,
}

impl<'a, T: Task> Runner<'a, T> {
    pub(super) fn new(committing: &'a Committing, job: T, need: Need, pace: Pace) -> Result<Self, Error> {
        committing.look();
        let total = {
            let _restricted = Restricted::unless_owner(Table::look_at(job.relation())?.owner());
            job.count(need)?
        };
        let work = Work {
            relation: job.relation(),
            embedding: job.column(),
            model: job.model().to_owned(),
            stale: need == Need::Renewal,
            details: job.details(&Table::look_at(job.relation())?)?.to_string(),
        };
        let (run, after) = Run::begin(&work, total)?;
        committing.commit();
        run.lock();
        let now = Instant::now();
        Ok(Self {
            committing,
            job,
            work: need,
            need,
            pace,
            run,
            after,
            total,
            begun: now,
            told: now,
            written: 0,
            tally: Tally::default(),
            memory: Scratch::new(),
        })
    }

    /// Goes through the table until nothing is left that can be done; returns how many rows were left.
    pub(super) fn run(mut self) -> Result<u64, Error> {
        let mut found_before = u64::MAX;
        loop {
            let after = self.after.take();
            let is_resumed = after.is_some();
            self.tally = Tally::default();
            self.walk(after)?;
            // Once more for rows that have come behind, until they are none or fail all.
            let Tally { found, written, failed, .. } = self.tally;
            let is_renewed = self.need == Need::Renewal && failed == 0;
            if is_renewed && (found == 0 || !self.job.tells_renewed()) {
                (self.need, found_before) = (Need::Vector, u64::MAX);
                continue;
            }
            if self.need == Need::Renewal && !is_renewed {
                break;
            }
            if !is_resumed {
                if self.need == Need::Vector && written == 0 {
                    break;
                }
                if found >= found_before {
                    self.tell_of_others(found);
                    break;
                }
                found_before = found;
            }
        }
        self.committing.look();
        self.run.end();
        self.tell_end()?;
        self.committing.commit();
        Ok(self.tally.failed)
    }

    fn walk(&mut self, mut after: Option<Key>) -> Result<(), Error> {
        let mut limit = self.pace.batch;
        loop {
            let which = Which::Next { after: after.as_ref(), need: self.need, limit };
            let batch = self.read(which)?;
            let Taken { rows, last, is_cut, .. } = T::taken(&batch);
            let Some(last) = last else { return Ok(()) };
            // Of long texts as many are read as are taken.
            limit = if is_cut && rows < limit { rows } else { limit.saturating_mul(2).min(self.pace.batch) };
            self.tally.found += rows as u64;
            self.tally.last = Some(last.clone());
            // What comes after all have been made anew is quickly looked for again.
            let noted = (self.need == self.work).then_some(&last);
            let again = self.embed_and_write(batch, Locking::Skip, noted)?;
            self.follow(again)?;
            if self.told.elapsed() >= TELL {
                self.tell_progress()?;
            }
            if !is_cut {
                return Ok(());
            }
            self.rest(self.pace.pause);
            after = Some(last);
        }
    }

    /// Reads rows in a transaction of its own.
    fn read(&mut self, which: Which<'_>) -> Result<T::Batch, Error> {
        let Self { memory, committing, job, .. } = self;
        committing.look();
        let batch = memory.within(|| {
            let _restricted = Restricted::unless_owner(Table::look_at(job.relation())?.owner());
            job.read(which)
        })?;
        memory.reset();
        self.commit();
        Ok(batch)
    }

    /// Embeds what was read, and writes it in a transaction of its own. Returns the keys of rows to be tried again.
    fn embed_and_write(
        &mut self,
        mut batch: T::Batch,
        locking: Locking,
        after: Option<&Key>,
    ) -> Result<Vec<Key>, Error> {
        let Self { memory, committing, job, run, tally, written, .. } = self;
        job.embed(&mut batch)?;
        committing.look();
        let outcomes = memory.within(|| {
            let table = Table::look_at(job.relation())?;
            job.check(&table)?;
            let _restricted = Restricted::unless_owner(table.owner());
            job.write(batch, locking)
        })?;
        let mut again = Vec::new();
        for (key, outcome) in outcomes {
            match outcome {
                Outcome::Written => {
                    tally.written += 1;
                    *written += 1;
                }
                Outcome::Failed(failure) => {
                    tally.failed += 1;
                    tally.first.get_or_insert((key, failure));
                }
                Outcome::Changed | Outcome::Locked => again.push(key),
                Outcome::Gone => {}
            }
        }
        if after.is_some() && again.is_empty() {
            memory.within(|| run.note(Progress { after, done: *written, failed: tally.failed }));
        }
        memory.reset();
        self.commit();
        Ok(again)
    }

    /// Tries rows again that others were in the way of; at last waits for each of them.
    fn follow(&mut self, mut keys: Vec<Key>) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            if keys.is_empty() {
                return Ok(());
            }
            sleep(BETWEEN_ATTEMPTS);
            let batch = self.read(Which::Keys(&keys, Some(self.need)))?;
            // What was too much to be taken at once.
            let Taken { rows, gone, is_cut, .. } = T::taken(&batch);
            let left = if is_cut { keys.split_off(rows + gone) } else { Vec::new() };
            keys = self.embed_and_write(batch, Locking::Skip, None)?;
            keys.extend(left);
        }
        for key in keys {
            let mut left = vec![key];
            for _ in 0..ATTEMPTS {
                let batch = self.read(Which::Keys(&left, Some(self.need)))?;
                left = self.embed_and_write(batch, Locking::Wait, None)?;
                if left.is_empty() {
                    break;
                }
            }
            for key in left {
                self.tally.failed += 1;
                self.tally.first.get_or_insert_with(|| (key, Error::ChangedAgain.failure()));
            }
        }
        Ok(())
    }

    /// Others store such rows as fast as their vectors are made anew.
    fn tell_of_others(&mut self, found: u64) {
        if self.need == Need::Renewal {
            self.tally.failed = found;
            self.tally.first = self.tally.last.take().map(|key| (key, Error::ChangedAgain.failure()));
        }
    }

    fn commit(&self) {
        self.committing.commit();
        self.run.lock();
    }

    /// Waits so long, with interrupts.
    fn rest(&self, time: Duration) {
        let begun = Instant::now();
        while let Some(rest) = time.checked_sub(begun.elapsed()).filter(|rest| !rest.is_zero()) {
            sleep(rest);
        }
    }

    fn tell_progress(&mut self) -> Result<(), Error> {
        self.told = Instant::now();
        let (name, column) = (Table::look_at(self.job.relation())?.name(), self.job.column());
        let rate = self.written as f64 / self.begun.elapsed().as_secs_f64();
        let (written, total) = (self.written, self.total);
        notice(format!(
            "column \"{column}\" of relation \"{name}\": {written} of {total} rows, {rate:.0} a second"
        ));
        Ok(())
    }

    fn tell_end(&self) -> Result<(), Error> {
        let table = Table::look_at(self.job.relation())?;
        let (name, column) = (table.name(), self.job.column());
        notice(format!("column \"{column}\" of relation \"{name}\": {} embedded", rows_of(self.written)));
        if let Some((key, failure)) = &self.tally.first {
            let message = format!(
                "{} of relation \"{name}\" left without a vector in column \"{column}\"",
                rows_of(self.tally.failed)
            );
            warning::left(message, &key.tell(&table)?, &failure.sqlstate(), &failure.message);
        }
        Ok(())
    }
}
