//! `attach_chunks` and `detach_chunks`.

use std::collections::BTreeMap;

use pgrx::pg_sys;
use pgrx::prelude::*;
use vector_embed_protocol::{ChunkRule, Purpose};

use super::super::attach::{drop_trigger, trigger_name};
use crate::api::backfill;
use crate::attachment::chunks::link::{Link, check_documents, qualified};
use crate::attachment::chunks::options::{Names, Options};
use crate::attachment::chunks::passages;
use crate::attachment::{Record, Recorded, Timing, is_recorded, recorded_queue};
use crate::client;
use crate::client::vectors::{self, Wanted};
use crate::error::{Error, OrRaise, TableFault};
use crate::pg::lookup::Json;
use crate::pg::settings::Model;
use crate::pg::spi;
use crate::pg::table::{Change, Table, quote_identifier, quote_literal};
use crate::pg::table_triggers::{TriggerEntry, trigger_comment, trigger_function};
use crate::pg::text::Text;
use crate::pg::vector::TextArray;
use crate::pg::wake;
use crate::pg::warning::{self, notice};
use crate::queue::{Access, Queue};
use crate::refresh::chunks::{ChunkJob, FUNCTION};

/// What fires each of the triggers, and the end of its name.
const EVENTS: [(&str, &str); 4] = [
    ("_insert", "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows"),
    ("_update", "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"),
    ("_delete", "AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows"),
    ("_truncate", "AFTER TRUNCATE ON {table}"),
];

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments, reason = "as many as the SQL function has")]
fn attach_chunks(
    relation: Option<pg_sys::Oid>,
    text_column: Option<Text<'_>>,
    chunk_table: Option<Text<'_>>,
    key: Option<TextArray<'_>>,
    model: Option<Text<'_>>,
    max_tokens: Option<i32>,
    overlap_tokens: Option<i32>,
    format: Option<Text<'_>>,
    columns: Option<Json<'_>>,
    fill: Option<Json<'_>>,
    timing: Option<Text<'_>>,
) {
    let given = || {
        let key = key.as_ref().map(|key| {
            let names = key.elements().iter().map(|name| name.as_ref().map(|name| name.as_str().to_owned()));
            names.collect::<Option<Vec<_>>>().ok_or(Error::Null("a column of the key"))
        });
        let names = |argument: &'static str, json: Option<&Json<'_>>| match json {
            None => Ok(BTreeMap::new()),
            Some(json) => serde_json::from_str(json.as_str()).map_err(|_| Error::NoNames(argument)),
        };
        let model = model.as_ref().map_or(Model::Default, |model| Model::Named(model.as_str()));
        Ok(Wish {
            relation: relation.ok_or(Error::Null("relation"))?,
            column: text_column.as_ref().ok_or(Error::Null("text_column"))?.as_str().to_owned(),
            chunk_table: chunk_table.as_ref().ok_or(Error::Null("chunk_table"))?.as_str().to_owned(),
            key: key.transpose()?,
            model: model.name()?.into_owned(),
            max_tokens,
            overlap_tokens,
            format: format.as_ref().map_or("text", Text::as_str).to_owned(),
            columns: names("columns", columns.as_ref())?,
            fill: names("fill", fill.as_ref())?,
            is_queued: match timing.as_ref().map_or("statement", Text::as_str) {
                "statement" => false,
                "queue" => true,
                other => return Err(Error::ChunkTiming(other.to_owned())),
            },
        })
    };
    given().and_then(|wish: Wish| wish.carry_out()).or_raise();
}

#[pg_extern(sql = false)]
fn detach_chunks(relation: pg_sys::Oid, chunk_table: Text<'_>) {
    let detached = || {
        let seen = Table::look_at(relation)?;
        let name = Name::find(chunk_table.as_str())?;
        if keepers(&seen, &name).is_empty() {
            let (chunks, table) = (chunk_table.as_str(), seen.name());
            notice(format!("chunk table \"{chunks}\" of relation \"{table}\" is not attached, skipping"));
            return Ok(());
        }
        drop(seen);
        let table = Table::open_to_change(relation, Change::Drop)?;
        let dropped = keepers(&table, &name);
        let queue = queue_of(&dropped);
        if let Some(job) = dropped.iter().find_map(|trigger| ChunkJob::of(&table, trigger).ok().flatten()) {
            backfill::forget_chunks(&job)?;
        }
        dropped.iter().try_for_each(|trigger| drop_trigger(&table, trigger))?;
        if let Some(queue) = queue.and_then(|name| Queue::open(&table, &name, Access::Read).ok()) {
            let rows = queue.count()?;
            if rows > 0 {
                warning::dropped_queue(&table.name(), &name.table, rows);
            }
            queue.drop_table()?;
        }
        Ok(())
    };
    detached().or_raise();
}

/// What somebody wants attached.
struct Wish {
    relation: pg_sys::Oid,
    column: String,
    chunk_table: String,
    key: Option<Vec<String>>,
    model: String,
    max_tokens: Option<i32>,
    overlap_tokens: Option<i32>,
    format: String,
    columns: BTreeMap<String, String>,
    fill: BTreeMap<String, String>,
    is_queued: bool,
}

impl Wish {
    fn carry_out(&self) -> Result<(), Error> {
        // What takes time, asking the engine, is done before anybody has to wait for the table.
        let seen = Table::look_at(self.relation)?;
        check_documents(&seen)?;
        seen.text_column(&seen.column(&self.column)?, crate::pg::table::Moment::After)?;
        let hash = client::model(&self.model)?.hash;
        let dimensions = self.probe(&hash)?;
        let name = Name::find(&self.chunk_table)?;
        let options = self.options(&seen, name.oid)?;
        if name.oid.is_none() {
            self.create_table(&seen, &name, &options, dimensions)?;
        }
        let oid = Table::find(&name.schema, &name.table).ok_or(Error::NoRelation(0))?;
        let chunks = Table::look_at(oid)?;
        let link = Link::new(&seen, &chunks, &self.column, &options)?;
        link.check_dimensions(&self.model, dimensions)?;
        if name.oid.is_some() {
            link.check_existing()?;
            self.check_alone(&seen, &chunks, &name)?;
        }
        let arguments = [&self.column, &self.model, &name.schema, &name.table, &options.to_json()];
        let existing = keepers(&seen, &name);
        if !existing.is_empty() {
            return self.compare(&seen, &existing, &arguments, &hash);
        }
        drop(link);
        drop(seen);
        let table = Table::open_to_change(self.relation, Change::Add)?;
        let queue = self.is_queued.then(|| Queue::create(&table, &name.table)).transpose()?;
        if queue.is_some() {
            // So that the database is known for one with queues.
            wake::after_commit();
        }
        create_triggers(&table, &name.table, &arguments, &hash, queue.as_deref())
    }

    /// Makes sure that texts can be cut as is wanted, and embedded; returns the length of vectors.
    fn probe(&self, hash: &str) -> Result<usize, Error> {
        client::chunk(&self.model, self.rule()?, &[""]).map_err(Error::without_place)?;
        let mut dimensions = 0;
        let wanted = Wanted { model: &self.model, purpose: Purpose::Document, expected_hash: Some(hash) };
        vectors::embed(&[""], &wanted, &mut |_, numbers| dimensions = numbers.len() / size_of::<f32>())
            .map_err(Error::without_place)?;
        Ok(dimensions)
    }

    fn rule(&self) -> Result<ChunkRule, Error> {
        passages::rule(self.max_tokens, self.overlap_tokens, Some(&self.format))
    }

    /// All names; those that are not given are the usual ones. Of an existing table only columns that it has.
    fn options(&self, documents: &Table, chunks: Option<pg_sys::Oid>) -> Result<Options, Error> {
        const NAMES: [&str; 6] =
            ["chunk_index", "content", "embedding", "start_char", "char_count", "token_count"];
        if let Some(unknown) = self.columns.keys().find(|name| !NAMES.contains(&name.as_str())) {
            return Err(Error::UnknownColumn(unknown.clone()));
        }
        let chunks = chunks.map(Table::look_at).transpose()?;
        let name = |name: &str| self.columns.get(name).cloned().unwrap_or_else(|| name.to_owned());
        let number = |usual: &str| {
            let is_there = chunks.as_ref().is_none_or(|chunks| chunks.column(usual).is_ok());
            self.columns.get(usual).cloned().or_else(|| is_there.then(|| usual.to_owned()))
        };
        let key = match &self.key {
            Some(key) => key.clone(),
            None => {
                let key = check_documents(documents)?;
                key.iter()
                    .map(|column| format!("document_{}", documents.column_name(column.number)))
                    .collect()
            }
        };
        Ok(Options {
            key,
            columns: Names {
                chunk_index: name("chunk_index"),
                content: name("content"),
                embedding: name("embedding"),
                start_char: number("start_char"),
                char_count: number("char_count"),
                token_count: number("token_count"),
            },
            fill: self.fill.clone(),
            max_tokens: self.max_tokens,
            overlap_tokens: self.overlap_tokens,
            format: self.format.clone(),
        })
    }

    fn create_table(
        &self,
        documents: &Table,
        name: &Name,
        options: &Options,
        dimensions: usize,
    ) -> Result<(), Error> {
        let of_documents = check_documents(documents)?;
        if of_documents.len() != options.key.len() {
            let (key, named) = (of_documents.len(), options.key.len());
            return Err(documents.unfit(TableFault::KeyColumns { key, named }));
        }
        let quoted = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>().join(", ");
        let key = quoted(&mut options.key.iter().map(|name| quote_identifier(name)));
        let referenced =
            quoted(&mut of_documents.iter().map(|column| documents.quoted_column(column.number)));
        let mut columns = vec!["id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY".to_owned()];
        for (name, of) in options.key.iter().zip(&of_documents) {
            let of = documents.whole_type_of(of.number);
            columns.push(format!("{} {of} NOT NULL", quote_identifier(name)));
        }
        let Names { chunk_index, content, embedding, .. } = &options.columns;
        columns.push(format!("{} integer NOT NULL", quote_identifier(chunk_index)));
        columns.push(format!("{} text NOT NULL", quote_identifier(content)));
        for column in options.columns.numbers().into_iter().filter_map(|(_, column)| column) {
            columns.push(format!("{} integer NOT NULL", quote_identifier(column)));
        }
        let vector = vector_type()?;
        columns.push(format!("{} {vector}({dimensions}) NOT NULL", quote_identifier(embedding)));
        for (name, of) in &options.fill {
            let of = documents.whole_type_of(documents.column(of)?.number);
            columns.push(format!("{} {of}", quote_identifier(name)));
        }
        let index = quote_identifier(chunk_index);
        // Chunks change places within one statement.
        columns.push(format!("UNIQUE ({key}, {index}) DEFERRABLE"));
        columns.push(format!(
            "FOREIGN KEY ({key}) REFERENCES {} ({referenced}) ON UPDATE CASCADE ON DELETE CASCADE",
            documents.quoted_name()
        ));
        let table = name.quoted();
        spi::execute(&format!("CREATE TABLE {table} ({})", columns.join(", ")))?;
        let owner = format!(
            "SELECT pg_catalog.quote_ident(r.rolname) FROM pg_catalog.pg_roles AS r WHERE r.oid = {}",
            documents.owner().to_u32()
        );
        let owner = spi::strings(&qualified(&owner))?.pop().ok_or(Error::Internal("an owner is no role"))?;
        spi::execute(&format!("ALTER TABLE {table} OWNER TO {owner}"))
    }

    /// Makes sure that no other table of documents has its chunks there: of equal keys one would be taken for the other.
    fn check_alone(&self, documents: &Table, chunks: &Table, name: &Name) -> Result<(), Error> {
        let others = format!(
            "SELECT DISTINCT t.tgrelid::pg_catalog.text FROM pg_catalog.pg_trigger AS t \
             JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid \
             WHERE t.tgfoid = {} AND c.relowner = {} AND NOT t.tgrelid = {}",
            trigger_function(FUNCTION).to_u32(),
            documents.owner().to_u32(),
            documents.oid().to_u32(),
        );
        for oid in spi::strings(&qualified(&others))? {
            let oid = oid.parse::<u32>().map_err(|_| Error::Internal("an oid is no number"))?;
            let other = Table::look_at(oid.into())?;
            if !keepers(&other, name).is_empty() {
                return Err(chunks.unfit(TableFault::ChunksOfAnother { documents: other.name() }));
            }
        }
        Ok(())
    }

    /// Leaves triggers alone that are those that would be made; refuses others.
    fn compare(
        &self,
        documents: &Table,
        existing: &[TriggerEntry],
        arguments: &[&String; 5],
        hash: &str,
    ) -> Result<(), Error> {
        let is_wanted = |trigger: &TriggerEntry| {
            let comment = trigger_comment(trigger.oid);
            let recorded = Recorded::from_comment(comment.as_deref());
            is_recorded(comment.as_deref(), &trigger.arguments)
                && trigger.arguments.iter().eq(arguments.iter().copied())
                && trigger.fires()
                && recorded == Recorded::Hash(hash.to_owned())
                && recorded_queue(comment.as_deref(), &trigger.arguments).is_some() == self.is_queued
        };
        let (chunks, table) = (&self.chunk_table, documents.name());
        if existing.len() == EVENTS.len() && existing.iter().all(is_wanted) {
            notice(format!("chunk table \"{chunks}\" of relation \"{table}\" is already attached, skipping"));
            return Ok(());
        }
        Err(documents.unfit(TableFault::OtherChunks { chunks: chunks.clone() }))
    }
}

impl Link<'_> {
    /// Makes sure that an existing chunk table can have several chunks of a document, and nothing else is needed.
    fn check_existing(&self) -> Result<(), Error> {
        let oid = self.chunks.oid().to_u32();
        let numbers = |columns: &mut dyn Iterator<Item = &String>| {
            let numbers =
                columns.map(|name| self.chunks.column(name).map(|column| column.number.to_string()));
            numbers.collect::<Result<Vec<_>, Error>>().map(|numbers| numbers.join(", "))
        };
        let key = numbers(&mut self.options.key.iter())?;
        let single = format!(
            "SELECT i.indexrelid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_index AS i \
             WHERE i.indrelid = {oid} AND i.indisunique \
             AND i.indkey::pg_catalog.int2[] OPERATOR(pg_catalog.<@) ARRAY[{key}]::pg_catalog.int2[]"
        );
        if let Some(index) = spi::strings(&qualified(&single))?.pop() {
            return Err(self.chunks.unfit(TableFault::OneChunk { index }));
        }
        let filled = numbers(&mut self.options.filled().into_iter())?;
        let needed = format!(
            "SELECT a.attname FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = {oid} \
             AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef \
             AND a.attidentity = '' AND NOT a.attnum = ANY (ARRAY[{filled}]::pg_catalog.int2[]) \
             ORDER BY a.attnum"
        );
        let needed = spi::strings(&qualified(&needed))?;
        if needed.is_empty() {
            Ok(())
        } else {
            Err(self.chunks.unfit(TableFault::Unfilled { columns: needed }))
        }
    }
}

/// The triggers of a table that keep this chunk table.
fn keepers(documents: &Table, name: &Name) -> Vec<TriggerEntry> {
    keepers_of(documents, &name.schema, &name.table)
}

/// The same, of a chunk table by its name.
pub(in crate::api) fn keepers_of(documents: &Table, schema: &str, table: &str) -> Vec<TriggerEntry> {
    let function = trigger_function(FUNCTION);
    let mut triggers = documents.triggers();
    triggers.retain(|trigger| {
        trigger.function == function
            && trigger.arguments.get(2).is_some_and(|name| name == schema)
            && trigger.arguments.get(3).is_some_and(|name| name == table)
    });
    triggers
}

pub(in crate::api) fn create_triggers(
    table: &Table,
    name: &str,
    arguments: &[&String; 5],
    hash: &str,
    queue: Option<&str>,
) -> Result<(), Error> {
    let timing = if queue.is_some() { Timing::Queue } else { Timing::Statement };
    let record = Record { timing, hash, arguments, provenance: None, replaces: None, queue };
    let comment = quote_literal(&record.to_comment());
    let arguments = arguments.map(|argument| quote_literal(argument)).join(", ");
    let quoted_table = table.quoted_name();
    for (suffix, event) in EVENTS {
        let trigger = quote_identifier(&trigger_name(table, name, suffix));
        let event = event.replace("{table}", &quoted_table);
        spi::execute(&format!(
            "CREATE TRIGGER {trigger} {event} FOR EACH STATEMENT EXECUTE FUNCTION vector_embed.{FUNCTION}({arguments})"
        ))?;
        spi::execute(&format!("COMMENT ON TRIGGER {trigger} ON {quoted_table} IS {comment}"))?;
    }
    Ok(())
}

/// The queue that triggers record.
pub(in crate::api) fn queue_of(triggers: &[TriggerEntry]) -> Option<String> {
    triggers
        .iter()
        .find_map(|trigger| recorded_queue(trigger_comment(trigger.oid).as_deref(), &trigger.arguments))
}

/// pgvector's type, quoted for SQL.
fn vector_type() -> Result<String, Error> {
    let sql = "SELECT pg_catalog.format('%I.vector', n.nspname) FROM pg_catalog.pg_extension AS e \
               JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'";
    spi::strings(&qualified(sql))?.pop().ok_or(Error::Internal("the extension vector is not there"))
}

/// A table's name, and its oid if there is such a table.
struct Name {
    schema: String,
    table: String,
    oid: Option<pg_sys::Oid>,
}

impl Name {
    /// What a name means now: a table that there is, or that would be created by it.
    fn find(name: &str) -> Result<Self, Error> {
        let literal = quote_literal(name);
        let mut parts =
            spi::strings(&format!("SELECT pg_catalog.unnest(pg_catalog.parse_ident({literal}))"))?;
        let found = qualified(
            "SELECT pg_catalog.unnest(ARRAY[n.nspname, c.relname]) FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass(",
        );
        if let [schema, table] = spi::strings(&format!("{found}{literal})"))?.as_slice() {
            let (schema, table) = (schema.clone(), table.clone());
            return Ok(Self { oid: Table::find(&schema, &table), schema, table });
        }
        let table = parts.pop().unwrap_or_default();
        let schema = match parts.pop() {
            Some(schema) => schema,
            None => spi::strings("SELECT pg_catalog.current_schema()")?.pop().ok_or(Error::NoSchema)?,
        };
        Ok(Self { schema, table, oid: None })
    }

    fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.table))
    }
}
