//! `backfill`: vectors of the rows that were there before, in committed batches.

mod run;
mod state;

use std::time::Duration;

use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::attachment::{Filler, Recorded, comment_with, fillers};
use crate::client;
use crate::error::{ColumnFault, Error, OrRaise, TableFault};
use crate::pg::procedure::ProcedureCall;
use crate::pg::spi;
use crate::pg::table::{Table, quote_identifier, quote_literal, trigger_comment};
use crate::pg::text::Text;
use crate::pg::transaction::Committing;
use crate::pg::warning::notice;
use crate::refresh::{Job, Need};
use run::Runner;

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
        let jobs = self.jobs()?;
        for job in jobs {
            if self.stale {
                renew(&committing, job, self.pace)?;
            } else {
                of_job(&committing, job, Need::Vector, self.pace)?;
            }
        }
        Ok(())
    }

    /// What is attached and wanted.
    fn jobs(&self) -> Result<Vec<Job>, Error> {
        let table = Table::look_at(self.relation)?;
        let mut jobs: Vec<Job> = Vec::new();
        for filler in fillers(&table) {
            let job = Job::of(&table, &filler)?;
            if !jobs.contains(&job) && self.embedding.as_ref().is_none_or(|wanted| *wanted == job.embedding) {
                jobs.push(job);
            }
        }
        match &self.embedding {
            Some(embedding) if jobs.is_empty() => {
                table.column(embedding)?;
                Err(table.fault(embedding, ColumnFault::NotAttached))
            }
            None if jobs.is_empty() => Err(table.unfit(TableFault::NothingAttached)),
            _ => Ok(jobs),
        }
    }
}

/// One attachment's.
pub(super) fn of_job(committing: &Committing, job: Job, need: Need, pace: Pace) -> Result<(), Error> {
    Runner::new(committing, job, need, pace)?.run().map(|_| ())
}

/// Forgets how far those of a column have come, which is not attached any more.
pub(super) fn forget(relation: pg_sys::Oid, embedding: &str) -> Result<(), Error> {
    state::forget(relation, embedding)
}

/// Makes all vectors anew by the model that is installed now, and records its hash when there are no others.
fn renew(committing: &Committing, mut job: Job, pace: Pace) -> Result<(), Error> {
    let hash = client::model(&job.model)?.hash;
    if job.hash.as_ref() == Some(&hash) && job.provenance.is_none() {
        let name = Table::look_at(job.relation)?.name();
        let column = &job.embedding;
        notice(format!(
            "vectors in column \"{column}\" of relation \"{name}\" are those of the model, none is stale"
        ));
        return of_job(committing, job, Need::Vector, pace);
    }
    let is_recorded = job.hash.is_some();
    job.hash = Some(hash.clone());
    if is_recorded {
        committing.look();
        record(&job, None, Some(&hash))?;
        committing.commit();
    }
    let left = Runner::new(committing, job.clone(), Need::Renewal, pace)?.run()?;
    if left == 0 && is_recorded {
        committing.look();
        record(&job, Some(&hash), None)?;
        committing.commit();
    }
    Ok(())
}

/// Records a hash in the comments of the triggers, or one that is to be recorded.
fn record(job: &Job, hash: Option<&str>, next: Option<&str>) -> Result<(), Error> {
    let table = Table::look_at(job.relation)?;
    job.check_attached(&table)?;
    let is_of_job = |filler: &&Filler| {
        filler.embedding() == job.embedding && matches!(filler.recorded, Recorded::Hash(_))
    };
    for filler in fillers(&table).iter().filter(is_of_job) {
        let comment =
            trigger_comment(filler.trigger.oid).and_then(|comment| comment_with(&comment, hash, next));
        let comment = comment.ok_or_else(|| Error::TriggerComment(filler.trigger.name.clone()))?;
        spi::execute(&format!(
            "COMMENT ON TRIGGER {} ON {} IS {}",
            quote_identifier(&filler.trigger.name),
            table.quoted_name(),
            quote_literal(&comment)
        ))?;
    }
    Ok(())
}
