//! `reembed_start`, `reembed_indexes`, `reembed_finish`, `reembed_cancel`: another model without downtime.
//!
//! A second column is filled beside the first, by triggers and a backfill, and takes its name at last. That it is to is
//! recorded in the comment of its triggers.

mod definition;
mod finish;
mod indexes;

use pgrx::pg_sys;
use pgrx::prelude::*;
use vector_embed_protocol::Purpose;

use crate::api::backfill::{self, Pace};
use crate::api::trigger::attach::{Wish, drop_queue, drop_trigger};
use crate::api::trigger::chunks::attach::keepers_of;
use crate::attachment::chunks::link::qualified;
use crate::attachment::chunks::options::Options;
use crate::attachment::{Filler, Recorded, Timing, fillers, is_recorded};
use crate::client;
use crate::client::vectors::{self, Wanted};
use crate::error::{ColumnFault, Error, OrRaise};
use crate::pg::procedure::ProcedureCall;
use crate::pg::settings::Model;
use crate::pg::spi;
use crate::pg::table::{Change, Table, quote_identifier};
use crate::pg::table_triggers::{TriggerEntry, trigger_comment, trigger_function};
use crate::pg::text::{ServerText, Text};
use crate::pg::transaction::Committing;
use crate::pg::types::{Type, VectorKind};
use crate::refresh::{Job, Need};
use indexes::{Matched, free_name};

#[pg_extern(sql = false)]
fn reembed_start(
    relation: Option<pg_sys::Oid>,
    embedding: Option<Text<'_>>,
    new_model: Option<Text<'_>>,
    batch: Option<i32>,
    pause: Option<pgrx::datum::Interval>,
    call: ProcedureCall,
) {
    let start = || {
        let pace = Pace::new(batch, pause)?;
        let relation = relation.ok_or(Error::Null("relation"))?;
        let embedding = embedding.ok_or(Error::Null("embedding"))?.into_string();
        let new_model = new_model.ok_or(Error::Null("new_model"))?;
        let new_model = Model::Named(new_model.as_str()).name()?.into_owned();
        let committing = Committing::begin("reembed_start", &call)?;
        let job = start(relation, &embedding, &new_model)?;
        committing.commit();
        backfill::of_job(&committing, job, Need::Vector, pace).map(|_| ())
    };
    start().or_raise();
}

#[pg_extern(sql = false)]
fn reembed_indexes(relation: pg_sys::Oid, embedding: Text<'_>) -> SetOfIterator<'static, ServerText> {
    let statements = || {
        let table = Table::look_at(relation)?;
        let renewal = Renewal::find(&table, embedding.as_str())?;
        let mut statements = Matched::new(&table, &renewal)?.statements(&table);
        statements.extend(finish::not_null_statements(&table, &renewal)?);
        Ok(statements)
    };
    let statements: Vec<String> = statements().or_raise();
    SetOfIterator::new(statements.into_iter().map(ServerText))
}

#[pg_extern(sql = false)]
fn reembed_finish(
    relation: pg_sys::Oid,
    embedding: Text<'_>,
    drop_old: bool,
    keep_dependents: bool,
    allow_missing: bool,
) {
    let allowed = finish::Allowed { drop_old, keep_dependents, allow_missing };
    finish::finish(relation, embedding.as_str(), allowed).or_raise();
}

#[pg_extern(sql = false)]
fn reembed_cancel(relation: pg_sys::Oid, embedding: Text<'_>) {
    let cancel = || {
        Renewal::find(&Table::look_at(relation)?, embedding.as_str())?;
        let table = Table::open_to_change(relation, Change::Drop)?;
        let renewal = Renewal::find(&table, embedding.as_str())?;
        let dropped = renewal.drop_triggers(&table)?;
        drop_queue(&table, &dropped)?;
        backfill::forget(relation, &renewal.job.embedding)?;
        let (name, column) = (table.quoted_name(), quote_identifier(&renewal.job.embedding));
        drop(table);
        spi::execute(&format!("ALTER TABLE {name} DROP COLUMN {column}"))
    };
    cancel().or_raise();
}

/// A column that is to take the place of another.
pub(super) struct Renewal {
    /// The other.
    embedding: String,
    /// What fills it.
    job: Job,
    timing: Timing,
    hash: String,
}

impl Renewal {
    fn find(table: &Table, embedding: &str) -> Result<Self, Error> {
        table.column(embedding)?;
        let found = Self::look(table, embedding)?;
        found.ok_or_else(|| table.fault(embedding, ColumnFault::NotRenewed))
    }

    fn look(table: &Table, embedding: &str) -> Result<Option<Self>, Error> {
        let is_new = |filler: &&Filler| filler.noted.replaces.as_deref() == Some(embedding);
        let Some(filler) = fillers(table).into_iter().find(|filler| is_new(&filler)) else { return Ok(None) };
        let job = Job::of(table, &filler)?;
        let hash = job.hash.clone().ok_or_else(|| Error::TriggerComment(filler.trigger.name.clone()))?;
        Ok(Some(Self { embedding: embedding.to_owned(), timing: filler.timing, hash, job }))
    }

    /// Drops the triggers that fill the column, and returns them: there may be a queue of theirs.
    fn drop_triggers(&self, table: &Table) -> Result<Vec<Filler>, Error> {
        let mut dropped = fillers(table);
        dropped.retain(|filler| filler.embedding() == self.job.embedding);
        dropped.iter().try_for_each(|filler| drop_trigger(table, &filler.trigger))?;
        Ok(dropped)
    }
}

/// What fills the column that is to be replaced.
enum Old {
    /// Triggers of the table itself.
    Here { timing: Timing, columns: Vec<String> },
    /// Triggers of a table of documents, whose chunks these are.
    Chunks { documents: pg_sys::Oid, triggers: Vec<TriggerEntry>, content: String },
}

impl Old {
    fn find(table: &Table, embedding: &str) -> Result<Self, Error> {
        let here: Vec<Filler> =
            fillers(table).into_iter().filter(|filler| filler.embedding() == embedding).collect();
        if let Some(filler) = here.first() {
            return match &filler.recorded {
                Recorded::Hash(_) if filler.noted.provenance.is_some() => {
                    Err(table.fault(embedding, ColumnFault::Provenance))
                }
                Recorded::Hash(_) => {
                    Ok(Self::Here { timing: filler.timing, columns: filler.columns().to_vec() })
                }
                Recorded::Unreadable => Err(Error::TriggerComment(filler.trigger.name.clone())),
                Recorded::Nothing => {
                    Err(table
                        .fault(embedding, ColumnFault::FilledBy { trigger: filler.trigger.name.clone() }))
                }
            };
        }
        let (schema, name) = (table.schema(), table.name());
        for documents in documents_of(table)? {
            let mut triggers = keepers_of(&Table::look_at(documents)?, &schema, &name);
            // Others who may make triggers are not to have them made anew in the owner's name.
            triggers
                .retain(|trigger| is_recorded(trigger_comment(trigger.oid).as_deref(), &trigger.arguments));
            let options = triggers.first().and_then(|trigger| trigger.arguments.get(4));
            let options: Option<Options> = options.and_then(|options| serde_json::from_str(options).ok());
            if let Some(options) = options.filter(|options| options.columns.embedding == embedding) {
                return Ok(Self::Chunks { documents, triggers, content: options.columns.content });
            }
        }
        Err(table.fault(embedding, ColumnFault::NotAttached))
    }
}

/// Tables of the same owner that have chunks somewhere.
fn documents_of(chunks: &Table) -> Result<Vec<pg_sys::Oid>, Error> {
    let function = trigger_function(crate::refresh::chunks::FUNCTION);
    let sql = format!(
        "SELECT DISTINCT t.tgrelid::pg_catalog.oid::pg_catalog.text FROM pg_catalog.pg_trigger AS t \
         JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid WHERE t.tgfoid = {} AND c.relowner = {}",
        function.to_u32(),
        chunks.owner().to_u32()
    );
    let number = |oid: String| oid.parse::<u32>().map(pg_sys::Oid::from);
    let oids = spi::strings(&qualified(&sql))?.into_iter().map(number);
    oids.collect::<Result<_, _>>().map_err(|_| Error::Internal("an oid is no number"))
}

/// Adds the column and its triggers, unless they are there.
fn start(relation: pg_sys::Oid, embedding: &str, new_model: &str) -> Result<Job, Error> {
    // What takes time, asking the engine, is done before anybody has to wait for the table.
    let seen = Table::look_at(relation)?;
    let column = seen.column(embedding)?;
    let old_column = seen.vector_column(&column)?;
    let old = Old::find(&seen, embedding)?;
    Job::check_key(&seen)?;
    if let Some(renewal) = Renewal::look(&seen, embedding)? {
        return if renewal.job.model == new_model {
            Ok(renewal.job)
        } else {
            Err(seen.fault(embedding, ColumnFault::RenewedBy { model: renewal.job.model }))
        };
    }
    let hash = client::model(new_model)?.hash;
    let mut dimensions = 0;
    let wanted = Wanted { model: new_model, purpose: Purpose::Document, expected_hash: Some(&hash) };
    vectors::embed(&[""], &wanted, &mut |_, numbers| dimensions = numbers.len() / size_of::<f32>())
        .map_err(Error::without_place)?;
    let (timing, columns) = match old {
        Old::Here { timing, columns } => (timing, columns),
        Old::Chunks { content, .. } => (Timing::Row, vec![content]),
    };
    let new_column = free_name(embedding, "_next", |name| seen.column(name).is_ok());
    let wish = Wish {
        relation,
        embedding: new_column,
        columns,
        model: new_model.to_owned(),
        timing,
        provenance: None,
        replaces: Some(embedding.to_owned()),
    };
    let table = Table::open_to_change(relation, Change::Drop)?;
    let of = match old_column.kind {
        VectorKind::Vector => Type(old_column.vector_type()).sql(),
        VectorKind::Halfvec => Type(old_column.base_type).sql(),
    };
    let changes = additions(&table, column.number, &wish.embedding, &format!("{of}({dimensions})"))?;
    // ALTER TABLE wants nobody to look at it. The lock stays.
    drop((seen, table));
    changes.iter().try_for_each(|change| spi::execute(change))?;
    let table = Table::open_to_change(relation, Change::Drop)?;
    wish.check(&table)?;
    wish.create(&table, &hash, &[])?;
    drop(table);
    Renewal::find(&Table::look_at(relation)?, embedding).map(|renewal| renewal.job)
}

/// Statements that add a column which is stored as the other is.
fn additions(table: &Table, like: i16, column: &str, of: &str) -> Result<Vec<String>, Error> {
    let (name, column) = (table.quoted_name(), quote_identifier(column));
    let sql = format!(
        "SELECT a.attstorage, a.attcompression, pg_catalog.array_to_string(a.attoptions, ', '), \
         CASE WHEN a.attstattarget OPERATOR(pg_catalog.>=) 0 THEN a.attstattarget END FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = {} AND a.attnum = {like}",
        table.oid().to_u32()
    );
    // A target that is not set is NULL, or -1 until PostgreSQL 16.
    let row = spi::texts(&qualified(&sql))?.pop();
    let [storage, compression, options, statistics] = row
        .and_then(|row| <[_; 4]>::try_from(row).ok())
        .ok_or(Error::Internal("a column is not as it was asked for"))?;
    let mut changes = vec![format!("ADD COLUMN {column} {of}")];
    let storage = match storage.as_deref() {
        Some("p") => Some("PLAIN"),
        Some("e") => Some("EXTERNAL"),
        Some("m") => Some("MAIN"),
        Some("x") => Some("EXTENDED"),
        _ => None,
    };
    changes.extend(storage.map(|storage| format!("ALTER COLUMN {column} SET STORAGE {storage}")));
    let compression = match compression.as_deref() {
        Some("p") => Some("pglz"),
        Some("l") => Some("lz4"),
        _ => None,
    };
    changes.extend(compression.map(|method| format!("ALTER COLUMN {column} SET COMPRESSION {method}")));
    changes.extend(options.map(|options| format!("ALTER COLUMN {column} SET ({options})")));
    changes.extend(statistics.map(|target| format!("ALTER COLUMN {column} SET STATISTICS {target}")));
    Ok(changes.into_iter().map(|change| format!("ALTER TABLE {name} {change}")).collect())
}
