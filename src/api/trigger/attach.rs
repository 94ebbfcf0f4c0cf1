//! `attach`, `detach` and `attachment_status`.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::attachment::{Filler, Record, Timing, fillers};
use super::statement;
use super::target::Target;
use crate::api::vectors;
use crate::client;
use crate::error::{ColumnFault, Error, OrRaise, TableFault};
use crate::pg::settings::Model;
use crate::pg::spi;
use crate::pg::table::{Kind, Moment, Table, quote_identifier, quote_literal};
use crate::pg::text::{Text, for_server};
use crate::pg::vector::TextArray;
use crate::pg::warning::notice;

/// Triggers fire in the order of their names: what others change in a text is to come before.
const TRIGGER_PREFIX: &str = "zz_vector_embed_";

#[pg_extern(sql = false)]
fn attach(
    relation: Option<pg_sys::Oid>,
    embedding: Option<Text<'_>>,
    columns: Option<TextArray<'_>>,
    model: Option<Text<'_>>,
    timing: Option<Text<'_>>,
) {
    let given = || {
        let columns = columns.as_ref().ok_or(Error::Null("columns"))?;
        let columns =
            columns.elements().iter().map(|column| column.as_ref().map(|text| text.as_str().to_owned()));
        Ok(Wish {
            embedding: embedding.as_ref().ok_or(Error::Null("embedding"))?.as_str().to_owned(),
            columns: columns.collect::<Option<_>>().ok_or(Error::Null("a column"))?,
            model: model
                .as_ref()
                .map_or(Model::Default, |model| Model::Named(model.as_str()))
                .name()?
                .into_owned(),
            timing: parse_timing(timing.as_ref().ok_or(Error::Null("timing"))?.as_str())?,
        })
    };
    let attached = given().and_then(|wish| {
        let relation = relation.ok_or(Error::Null("relation"))?;
        wish.carry_out(&Table::open_to_add_triggers(relation))
    });
    attached.or_raise();
}

#[pg_extern(sql = false)]
fn detach(relation: pg_sys::Oid, embedding: Text<'_>) {
    let table = Table::open_to_drop_triggers(relation);
    let attached: Vec<Filler> = fillers(&table)
        .into_iter()
        .filter(|filler| filler.record.is_some() && filler.embedding() == embedding.as_str())
        .collect();
    if attached.is_empty() {
        let (column, name) = (embedding.as_str(), table.name());
        notice(format!("column \"{column}\" of relation \"{name}\" is not attached, skipping"));
    }
    attached.iter().try_for_each(|filler| drop_trigger(&table, filler)).or_raise();
}

type Counts = TableIterator<
    'static,
    (name!(embedding, String), name!(total, i64), name!(embedded, i64), name!(missing, i64)),
>;

#[pg_extern(sql = false)]
fn attachment_status(relation: pg_sys::Oid) -> Counts {
    let table = Table::open_to_read(relation);
    let mut fillers = fillers(&table);
    fillers.dedup_by(|one, two| one.trigger.arguments == two.trigger.arguments);
    let counted =
        fillers.iter().map(|filler| count(&table, filler)).collect::<Result<Vec<_>, _>>().or_raise();
    TableIterator::new(counted)
}

fn count(table: &Table, filler: &Filler) -> Result<(String, i64, i64, i64), Error> {
    let embedding = quote_identifier(&table.column(filler.embedding())?.name);
    let columns: Vec<String> = filler.columns().iter().map(|column| quote_identifier(column)).collect();
    let [total, embedded, missing] = spi::numbers(&format!(
        "SELECT pg_catalog.count(*), pg_catalog.count({embedding}), pg_catalog.count(*) FILTER (
             WHERE {embedding} IS NULL AND pg_catalog.num_nonnulls({columns}) OPERATOR(pg_catalog.>) 0)
         FROM {table}",
        columns = columns.join(", "),
        table = table.quoted_name(),
    ))?;
    Ok((for_server(filler.embedding().to_owned()), total, embedded, missing))
}

fn parse_timing(timing: &str) -> Result<Timing, Error> {
    match timing {
        "row" => Ok(Timing::Row),
        "statement" => Ok(Timing::Statement),
        "queue" => Err(Error::QueueTiming),
        other => Err(Error::Timing(other.to_owned())),
    }
}

/// What somebody wants attached.
struct Wish {
    embedding: String,
    columns: Vec<String>,
    model: String,
    timing: Timing,
}

impl Wish {
    fn carry_out(&self, table: &Table) -> Result<(), Error> {
        let target = self.check(table)?;
        let fillers: Vec<Filler> =
            fillers(table).into_iter().filter(|filler| filler.embedding() == self.embedding).collect();
        if let Some(other) = fillers.iter().find(|filler| filler.record.is_none()) {
            let trigger = other.trigger.name.clone();
            return Err(table.fault(&self.embedding, ColumnFault::FilledBy { trigger }));
        }
        let hash = client::model(&self.model)?.hash;
        for (filler, record) in fillers.iter().filter_map(|filler| Some((filler, filler.record.as_ref()?))) {
            if filler.model() != self.model || record.hash != hash {
                let hash = record.hash.get(..12).unwrap_or(&record.hash);
                let attached = format!("model \"{}\" with a hash that begins with {hash}", filler.model());
                return Err(table.fault(&self.embedding, ColumnFault::OtherModel { attached }));
            }
            if filler.columns() != self.columns {
                let attached = filler.columns().join(", ");
                return Err(table.fault(&self.embedding, ColumnFault::OtherColumns { attached }));
            }
        }
        // Loads the model, which alone shows that it can be, and for some models how long their vectors are.
        let mut fits = Ok(());
        vectors::embed(&[""], &target.wanted(Some(&hash)), &mut |_, numbers| {
            fits = target.check_dimensions(table, numbers);
        })?;
        fits?;
        if self.is_fulfilled_by(&fillers) {
            let (column, name) = (&self.embedding, table.name());
            notice(format!("column \"{column}\" of relation \"{name}\" is already attached, skipping"));
            return Ok(());
        }
        fillers.iter().try_for_each(|filler| drop_trigger(table, filler))?;
        self.create(table, &Record { timing: self.timing, hash })
    }

    fn check(&self, table: &Table) -> Result<Target, Error> {
        let moment = match self.timing {
            Timing::Row => Moment::Before,
            Timing::Statement => Moment::After,
        };
        if table.kind() == Kind::Other {
            return Err(table.unfit(TableFault::Kind));
        }
        if self.columns.is_empty() {
            return Err(Error::NoColumns);
        }
        for (place, column) in self.columns.iter().enumerate() {
            if self.columns[..place].contains(column) {
                return Err(table.fault(column, ColumnFault::Repeated));
            }
        }
        let target = Target::new(table, &self.embedding, &self.model, &self.columns, moment)?;
        if self.timing == Timing::Statement {
            statement::check_kind(table)?;
            table.primary_key()?;
            if table.column(&self.embedding)?.not_null {
                return Err(table.fault(&self.embedding, ColumnFault::NotNull));
            }
        }
        Ok(target)
    }

    fn is_fulfilled_by(&self, fillers: &[Filler]) -> bool {
        let wanted = match self.timing {
            Timing::Row => 1,
            Timing::Statement => 2,
        };
        fillers.len() == wanted && fillers.iter().all(|filler| filler.timing == self.timing)
    }

    fn create(&self, table: &Table, record: &Record) -> Result<(), Error> {
        let events: &[(&str, &str)] = match self.timing {
            Timing::Row => &[("", "BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW")],
            Timing::Statement => &[
                ("_insert", "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT"),
                (
                    "_update",
                    "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows \
                     FOR EACH STATEMENT",
                ),
            ],
        };
        let arguments = [&self.embedding, &self.model].into_iter().chain(&self.columns);
        let arguments = arguments.map(|argument| quote_literal(argument)).collect::<Vec<_>>().join(", ");
        let quoted_table = table.quoted_name();
        for (suffix, event) in events {
            let name = quote_identifier(&trigger_name(table, &self.embedding, suffix));
            let event = event.replace("{table}", &quoted_table);
            let function = self.timing.function();
            spi::execute(&format!(
                "CREATE TRIGGER {name} {event} EXECUTE FUNCTION vector_embed.{function}({arguments})"
            ))?;
            let comment = quote_literal(&record.to_comment());
            spi::execute(&format!("COMMENT ON TRIGGER {name} ON {quoted_table} IS {comment}"))?;
        }
        Ok(())
    }
}

fn drop_trigger(table: &Table, filler: &Filler) -> Result<(), Error> {
    let name = quote_identifier(&filler.trigger.name);
    spi::execute(&format!("DROP TRIGGER {name} ON {}", table.quoted_name()))
}

/// A name that tells which column the trigger fills, cut to what a name may have, and numbered if it is taken.
fn trigger_name(table: &Table, embedding: &str, suffix: &str) -> String {
    const LONGEST: usize = pg_sys::NAMEDATALEN as usize - 1;
    let taken: Vec<String> = table.triggers().into_iter().map(|trigger| trigger.name).collect();
    (0..)
        .map(|number| {
            let suffix = if number == 0 { suffix.to_owned() } else { format!("{suffix}{number}") };
            let room = LONGEST - TRIGGER_PREFIX.len() - suffix.len();
            let mut end = embedding.len().min(room);
            while !embedding.is_char_boundary(end) {
                end -= 1;
            }
            format!("{TRIGGER_PREFIX}{}{suffix}", &embedding[..end])
        })
        .find(|name| !taken.contains(name))
        .expect("a table has fewer triggers than there are numbers")
}
