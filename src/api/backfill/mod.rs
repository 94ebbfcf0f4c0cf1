//! `backfill`: vectors of the rows that were there before, in committed batches.

mod run;
mod state;
mod task;

use std::time::Duration;

use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::attachment::{Timing, comment_with, fillers};
use crate::client;
use crate::error::{ColumnFault, Error, OrRaise, TableFault};
use crate::pg::procedure::ProcedureCall;
use crate::pg::spi;
use crate::pg::table::{Table, quote_identifier, quote_literal};
use crate::pg::table_triggers::{TriggerEntry, trigger_comment, trigger_function};
use crate::pg::text::Text;
use crate::pg::transaction::{Committing, wait_for_writers};
use crate::pg::warning::notice;
use crate::refresh::chunks::{ChunkJob, FUNCTION};
use crate::refresh::{Job, Need};
use run::Runner;
use task::Task;

/// What somebody wants.
struct Wish {
    relation: pg_sys::Oid,
    embedding: Option<String>,
    pace: Pace,
    stale: bool,
}

/// How fast to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Rows that are committed together.
    batch: usize,
    /// Between two batches.
    pause: Duration,
}

impl Pace {
    pub(super) fn new(batch: Option<i32>, pause: Option<Interval>) -> Result<Self, Error> {
        let batch = batch.ok_or(Error::Null("batch"))?;
        let at_least_one = usize::try_from(batch).ok().filter(|batch| *batch > 0);
        Ok(Self {
            batch: at_least_one.ok_or(Error::TooLow { name: "batch", value: batch, least: 1 })?,
            pause: duration(&pause.ok_or(Error::Null("pause"))?)?,
        })
    }
}

#[pg_extern(sql = false)]
fn backfill(
    relation: Option<pg_sys::Oid>,
    embedding: Option<Text<'_>>,
    batch: Option<i32>,
    pause: Option<Interval>,
    stale: Option<bool>,
    call: ProcedureCall,
) {
    let given = || {
        Ok(Wish {
            relation: relation.ok_or(Error::Null("relation"))?,
            embedding: embedding.as_ref().map(|embedding| embedding.as_str().to_owned()),
            pace: Pace::new(batch, pause)?,
            stale: stale.ok_or(Error::Null("stale"))?,
        })
    };
    given().and_then(|wish| wish.carry_out(&call)).or_raise();
}

fn duration(interval: &Interval) -> Result<Duration, Error> {
    const DAY: i64 = 86_400_000_000;
    let days = i64::from(interval.months()) * 30 + i64::from(interval.days());
    let micros = days.saturating_mul(DAY).saturating_add(interval.micros());
    u64::try_from(micros).map(Duration::from_micros).map_err(|_| Error::Negative("pause"))
}

impl Wish {
    fn carry_out(&self, call: &ProcedureCall) -> Result<(), Error> {
        let committing = Committing::begin("backfill", call)?;
        let (jobs, chunk_jobs) = self.jobs()?;
        for job in jobs {
            if self.stale {
                renew(&committing, job, self.pace)?;
            } else {
                of_job(&committing, job, Need::Vector, self.pace)?;
            }
        }
        for job in chunk_jobs {
            if self.stale {
                renew_chunks(&committing, job, self.pace)?;
            } else {
                of_job(&committing, job, Need::Vector, self.pace)?;
            }
        }
        Ok(())
    }

    /// What is attached and wanted.
    fn jobs(&self) -> Result<(Vec<Job>, Vec<ChunkJob>), Error> {
        let table = Table::look_at(self.relation)?;
        let is_wanted = |name: &str| self.embedding.as_ref().is_none_or(|wanted| *wanted == name);
        let mut jobs: Vec<Job> = Vec::new();
        for filler in fillers(&table) {
            let job = Job::of(&table, &filler)?;
            if !jobs.contains(&job) && is_wanted(&job.embedding) {
                jobs.push(job);
            }
        }
        let mut chunk_jobs = ChunkJob::all(&table)?;
        chunk_jobs.retain(|job| is_wanted(&job.column()) || is_wanted(&job.options.columns.embedding));
        match &self.embedding {
            _ if !jobs.is_empty() || !chunk_jobs.is_empty() => Ok((jobs, chunk_jobs)),
            Some(embedding) => {
                table.column(embedding)?;
                Err(table.fault(embedding, ColumnFault::NotAttached))
            }
            None => Err(table.unfit(TableFault::NothingAttached)),
        }
    }
}

/// One attachment's. Returns how many rows have been left.
pub(super) fn of_job<T: Task>(committing: &Committing, job: T, need: Need, pace: Pace) -> Result<u64, Error> {
    Runner::new(committing, job, need, pace)?.run()
}

/// Forgets how far those of a column have come, which is not attached any more.
pub(super) fn forget(relation: pg_sys::Oid, embedding: &str) -> Result<(), Error> {
    state::forget(relation, embedding)
}

/// The same of a chunk table, and of its chunks' vectors.
pub(super) fn forget_chunks(job: &ChunkJob) -> Result<(), Error> {
    state::forget(job.documents, &job.column())?;
    match job.of_vectors() {
        Ok(vectors) => state::forget(vectors.relation, &vectors.embedding),
        // It has gone, and what was known of it goes with the next backfill.
        Err(_) => Ok(()),
    }
}

/// Makes all vectors anew by the model that is installed now, and records its hash when there are no others.
fn renew(committing: &Committing, mut job: Job, pace: Pace) -> Result<(), Error> {
    let hash = client::model(&job.model)?.hash;
    if job.hash.as_ref() == Some(&hash) && job.provenance.is_none() && !job.is_being_renewed {
        tell_fresh(job.relation, &job.embedding)?;
        return of_job(committing, job, Need::Vector, pace).map(|_| ());
    }
    let is_recorded = job.hash.is_some();
    job.hash = Some(hash.clone());
    let triggers = Triggers::of(&job);
    if is_recorded {
        triggers.record(committing, None, Some(&hash))?;
        // Who has written by the old model and not committed yet is not left out.
        wait_for_writers(job.relation);
    }
    let left = of_job(committing, job, Need::Renewal, pace)?;
    if left == 0 && is_recorded {
        triggers.record(committing, Some(&hash), None)?;
    }
    Ok(())
}

/// The same for chunks, which stay what they are. Documents without chunks get theirs.
fn renew_chunks(committing: &Committing, mut job: ChunkJob, pace: Pace) -> Result<(), Error> {
    let hash = client::model(&job.model)?.hash;
    if job.hash.as_ref() == Some(&hash) && !job.is_being_renewed {
        tell_fresh(job.documents, &job.column())?;
        return of_job(committing, job, Need::Vector, pace).map(|_| ());
    }
    let triggers = Triggers::of_chunks(&job);
    triggers.record(committing, None, Some(&hash))?;
    wait_for_writers(job.documents);
    job.hash = Some(hash.clone());
    job.is_being_renewed = true;
    let mut left = of_job(committing, job.of_vectors()?, Need::Renewal, pace)?;
    left += of_job(committing, job, Need::Vector, pace)?;
    if left == 0 {
        triggers.record(committing, Some(&hash), None)?;
    }
    Ok(())
}

fn tell_fresh(relation: pg_sys::Oid, column: &str) -> Result<(), Error> {
    let name = Table::look_at(relation)?.name();
    notice(format!(
        "vectors in column \"{column}\" of relation \"{name}\" are those of the model, none is stale"
    ));
    Ok(())
}

/// The triggers of an attachment.
struct Triggers {
    relation: pg_sys::Oid,
    is_one: Box<dyn Fn(&TriggerEntry) -> bool>,
}

impl Triggers {
    fn of(job: &Job) -> Self {
        let embedding = job.embedding.clone();
        let functions = Timing::all().map(|timing| trigger_function(timing.function()));
        let is_one = move |trigger: &TriggerEntry| {
            functions.contains(&trigger.function) && trigger.arguments.first() == Some(&embedding)
        };
        Self { relation: job.relation, is_one: Box::new(is_one) }
    }

    fn of_chunks(job: &ChunkJob) -> Self {
        let (schema, table) = (job.schema.clone(), job.table.clone());
        let is_one = move |trigger: &TriggerEntry| {
            trigger.function == trigger_function(FUNCTION)
                && trigger.arguments.get(2) == Some(&schema)
                && trigger.arguments.get(3) == Some(&table)
        };
        Self { relation: job.documents, is_one: Box::new(is_one) }
    }

    /// Records a hash in their comments, or one that is to be recorded, and commits.
    fn record(&self, committing: &Committing, hash: Option<&str>, next: Option<&str>) -> Result<(), Error> {
        committing.look();
        let table = Table::look_at(self.relation)?;
        for trigger in table.triggers().iter().filter(|trigger| (self.is_one)(trigger)) {
            // One that was made by hand has none.
            let Some(comment) = trigger_comment(trigger.oid) else { continue };
            let Some(comment) = comment_with(&comment, hash, next) else { continue };
            spi::execute(&format!(
                "COMMENT ON TRIGGER {} ON {} IS {}",
                quote_identifier(&trigger.name),
                table.quoted_name(),
                quote_literal(&comment)
            ))?;
        }
        drop(table);
        committing.commit();
        Ok(())
    }
}
