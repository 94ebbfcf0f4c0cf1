//! `attach`, `detach` and `attachment_status`.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::chunks;
use crate::api::backfill;
use crate::attachment::target::Target;
use crate::attachment::{self, Filler, Record, Recorded, Timing, check_kind, fillers};
use crate::client;
use crate::client::vectors;
use crate::error::{ColumnFault, Error, OrRaise, TableFault};
use crate::pg::settings::Model;
use crate::pg::spi;
use crate::pg::table::{Change, Kind, Moment, Table, quote_identifier, quote_literal};
use crate::pg::table_triggers::{TriggerEntry, trigger_function};
use crate::pg::text::{ServerText, Text};
use crate::pg::vector::TextArray;
use crate::pg::wake;
use crate::pg::warning::{self, notice};
use crate::queue::{self, Access, Queue};

/// Triggers fire in the order of their names: what others change in a text is to come before.
const TRIGGER_PREFIX: &str = "zz_vector_embed_";

#[pg_extern(sql = false)]
fn attach(
    relation: Option<pg_sys::Oid>,
    embedding: Option<Text<'_>>,
    columns: Option<TextArray<'_>>,
    model: Option<Text<'_>>,
    timing: Option<Text<'_>>,
    provenance: Option<Text<'_>>,
) {
    let given = || {
        let columns = columns.as_ref().ok_or(Error::Null("columns"))?;
        let columns =
            columns.elements().iter().map(|column| column.as_ref().map(|text| text.as_str().to_owned()));
        let model = model.as_ref().map_or(Model::Default, |model| Model::Named(model.as_str()));
        Ok(Wish {
            relation: relation.ok_or(Error::Null("relation"))?,
            embedding: embedding.as_ref().ok_or(Error::Null("embedding"))?.as_str().to_owned(),
            columns: columns.collect::<Option<_>>().ok_or(Error::Null("a column"))?,
            model: model.name()?.into_owned(),
            timing: parse_timing(timing.as_ref().ok_or(Error::Null("timing"))?.as_str())?,
            provenance: provenance.as_ref().map(|column| column.as_str().to_owned()),
            replaces: None,
        })
    };
    given().and_then(|wish| wish.carry_out()).or_raise();
}

#[pg_extern(sql = false)]
fn detach(relation: pg_sys::Oid, embedding: Text<'_>) {
    let is_attached = |filler: &Filler| filler.is_attached() && filler.embedding() == embedding.as_str();
    let detached = || {
        let seen = Table::look_at(relation)?;
        if !fillers(&seen).iter().any(is_attached) {
            let (column, name) = (embedding.as_str(), seen.name());
            notice(format!("column \"{column}\" of relation \"{name}\" is not attached, skipping"));
            return Ok(());
        }
        drop(seen);
        let table = Table::open_to_change(relation, Change::Drop)?;
        let mut fillers = fillers(&table);
        fillers.retain(is_attached);
        fillers.iter().try_for_each(|filler| drop_trigger(&table, &filler.trigger))?;
        let rows = drop_queue(&table, &fillers)?;
        if rows > 0 {
            warning::dropped_queue(&table.name(), embedding.as_str(), rows);
        }
        backfill::forget(relation, embedding.as_str())
    };
    detached().or_raise();
}

/// Drops the queue of a column that these triggers have filled, if there is one; returns how many rows waited.
pub(in crate::api) fn drop_queue(table: &Table, dropped: &[Filler]) -> Result<i64, Error> {
    let Some(queue) = existing_queue(table, dropped) else { return Ok(0) };
    let rows = queue.count()?;
    queue.drop_table().map(|()| rows)
}

/// The queue of a column that these triggers fill, if it is as it should be.
fn existing_queue<'t>(table: &'t Table, fillers: &[Filler]) -> Option<Queue<'t>> {
    let name = fillers.iter().find_map(|filler| filler.queue.as_ref())?;
    Queue::open(table, name, Access::Read).ok()
}

/// A column, its table's rows, and of these how many have a vector, how many lack one and how many wait in a queue. What
/// cannot be known, because columns are not what they were, is `None`.
type Counted = (ServerText, i64, Option<i64>, Option<i64>, Option<i64>);

type Counts = TableIterator<
    'static,
    (
        name!(embedding, ServerText),
        name!(total, i64),
        name!(embedded, Option<i64>),
        name!(missing, Option<i64>),
        name!(pending, Option<i64>),
    ),
>;

#[pg_extern(sql = false)]
fn attachment_status(relation: pg_sys::Oid) -> Counts {
    TableIterator::new(count(relation).or_raise())
}

/// Counts the rows of all attachments of a table at once.
fn count(relation: pg_sys::Oid) -> Result<Vec<Counted>, Error> {
    let table = Table::open_to_read(relation)?;
    if table.kind() == Kind::Other {
        return Err(table.unfit(TableFault::Kind));
    }
    let mut attached: Vec<Vec<String>> =
        fillers(&table).into_iter().map(|filler| filler.trigger.arguments).collect();
    attached.retain(|arguments| !arguments.is_empty());
    attached.sort();
    attached.dedup();
    // -1 tells what is not known.
    let unknown = || ["-1::bigint".to_owned(), "-1::bigint".to_owned()];
    let served = queue::served(&table).into_iter().collect::<Result<Vec<_>, _>>()?;
    let pending = |embedding: &str| match served.iter().find(|served| served.work.column() == embedding) {
        None => "0::bigint".to_owned(),
        Some(served) => match Queue::open(&table, &served.queue, Access::Read) {
            Ok(queue) if queue.table.may_be_read() => queue.count_of_rows(),
            _ => "-1::bigint".to_owned(),
        },
    };
    let mut counts = vec!["pg_catalog.count(*)".to_owned()];
    for arguments in &attached {
        let columns = arguments.get(2..).unwrap_or_default();
        let all_exist = [&arguments[0]].into_iter().chain(columns).all(|column| table.column(column).is_ok());
        counts.extend(if all_exist && !columns.is_empty() {
            let embedding = quote_identifier(&arguments[0]);
            let columns: Vec<String> = columns.iter().map(|column| quote_identifier(column)).collect();
            let columns = columns.join(", ");
            [
                format!("pg_catalog.count({embedding})"),
                format!(
                    "pg_catalog.count(*) FILTER (WHERE {embedding} IS NULL \
                     AND pg_catalog.num_nonnulls({columns}) OPERATOR(pg_catalog.>) 0)"
                ),
            ]
        } else {
            // Its columns are not what they were.
            unknown()
        });
        counts.push(pending(&arguments[0]));
    }
    let of_chunks = chunks::status::counts(&table);
    for of_table in &of_chunks {
        counts.extend(of_table.aggregates.clone().unwrap_or_else(unknown));
        counts.push(pending(&of_table.embedding));
    }
    if counts.len() == 1 {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT {} FROM {} AS d", counts.join(", "), table.quoted_name());
    let numbers = spi::numbers(&sql, counts.len())?;
    let known = |number: i64| (number >= 0).then_some(number);
    let names = attached.into_iter().map(|mut arguments| arguments.swap_remove(0));
    let names = names.chain(of_chunks.into_iter().map(|of_table| of_table.embedding));
    let rows = names
        .zip(numbers[1..].chunks_exact(3))
        .map(|(name, of)| (ServerText(name), numbers[0], known(of[0]), known(of[1]), known(of[2])));
    Ok(rows.collect())
}

/// For the view: the queue in a comment.
#[pg_extern(sql = false)]
fn recorded_queue(comment: Text<'_>) -> Option<ServerText> {
    attachment::queue_in(comment.as_str()).map(ServerText)
}

/// For the view: the hash in a comment, the empty string if it cannot be read, NULL if there is none.
#[pg_extern(sql = false)]
fn recorded_model_hash(comment: Text<'_>) -> Option<String> {
    match Recorded::from_comment(Some(comment.as_str())) {
        Recorded::Nothing => None,
        Recorded::Hash(hash) => Some(hash),
        Recorded::Unreadable => Some(String::new()),
    }
}

fn parse_timing(timing: &str) -> Result<Timing, Error> {
    match timing {
        "row" => Ok(Timing::Row),
        "statement" => Ok(Timing::Statement),
        "queue" => Ok(Timing::Queue),
        other => Err(Error::Timing(other.to_owned())),
    }
}

/// What somebody wants attached.
#[derive(Debug)]
pub(in crate::api) struct Wish {
    pub(in crate::api) relation: pg_sys::Oid,
    pub(in crate::api) embedding: String,
    pub(in crate::api) columns: Vec<String>,
    pub(in crate::api) model: String,
    pub(in crate::api) timing: Timing,
    pub(in crate::api) provenance: Option<String>,
    /// The column that this one is to take the place of.
    pub(in crate::api) replaces: Option<String>,
}

impl Wish {
    fn carry_out(&self) -> Result<(), Error> {
        // What takes time, asking the engine, is done before anybody has to wait for the table.
        let (existing, hash) = {
            let table = Table::look_at(self.relation)?;
            let target = self.check(&table)?;
            let hash = client::model(&self.model)?.hash;
            let existing = self.compatible(&table, &hash)?;
            self.probe(&table, &target, &hash)?;
            if self.is_fulfilled_by(&table, &existing) {
                let (column, name) = (&self.embedding, table.name());
                notice(format!("column \"{column}\" of relation \"{name}\" is already attached, skipping"));
                return Ok(());
            }
            (existing, hash)
        };
        let change = if existing.is_empty() { Change::Add } else { Change::Drop };
        let table = Table::open_to_change(self.relation, change)?;
        self.check(&table)?;
        let existing = self.compatible(&table, &hash)?;
        existing.iter().try_for_each(|filler| drop_trigger(&table, &filler.trigger))?;
        self.create(&table, &hash, &existing)
    }

    /// The queue that the triggers are to have; one that there is, or a new one. Lets go of one that is not wanted.
    fn queue(&self, table: &Table, existing: &[Filler]) -> Result<Option<String>, Error> {
        let there_is = existing_queue(table, existing);
        match (self.timing, there_is) {
            (Timing::Queue, Some(queue)) => Ok(Some(queue.table.name())),
            (Timing::Queue, None) => {
                let name = Queue::create(table, &self.embedding)?;
                // So that the database is known for one with queues.
                wake::after_commit();
                Ok(Some(name))
            }
            (_, Some(queue)) => {
                // Their vectors would never be made: other triggers see changes only.
                match queue.count()? {
                    0 => queue.drop_table().map(|()| None),
                    rows => Err(table.unfit(TableFault::RowsWait { rows })),
                }
            }
            (_, None) => Ok(None),
        }
    }

    /// The arguments of the triggers.
    fn arguments(&self) -> impl Iterator<Item = &String> {
        [&self.embedding, &self.model].into_iter().chain(&self.columns)
    }

    /// Makes sure that the model can be loaded and its vectors fit. For some models only that tells how long they are.
    fn probe(&self, table: &Table, target: &Target, hash: &str) -> Result<(), Error> {
        let mut fits = Ok(());
        vectors::embed(&[""], &target.wanted(Some(hash)), &mut |_, numbers| {
            fits = target.check_dimensions(table, numbers);
        })
        .map_err(Error::without_place)?;
        fits
    }

    /// The triggers that fill the column now, if they may give way to those that are wanted: the column's vectors must
    /// stay of one kind.
    fn compatible(&self, table: &Table, hash: &str) -> Result<Vec<Filler>, Error> {
        let existing: Vec<Filler> =
            fillers(table).into_iter().filter(|filler| filler.embedding() == self.embedding).collect();
        for filler in &existing {
            let fault = match &filler.recorded {
                Recorded::Nothing => Some(ColumnFault::FilledBy { trigger: filler.trigger.name.clone() }),
                Recorded::Unreadable => return Err(Error::TriggerComment(filler.trigger.name.clone())),
                Recorded::Hash(recorded) if filler.model() != self.model || recorded != hash => {
                    let digits = recorded.get(..12).unwrap_or(recorded);
                    let attached =
                        format!("model \"{}\" with a hash that begins with {digits}", filler.model());
                    Some(ColumnFault::OtherModel { attached })
                }
                Recorded::Hash(_) if filler.columns() != self.columns => {
                    Some(ColumnFault::OtherColumns { attached: filler.columns().join(", ") })
                }
                Recorded::Hash(_) => None,
            };
            if let Some(fault) = fault {
                return Err(table.fault(&self.embedding, fault));
            }
        }
        Ok(existing)
    }

    /// Fails unless table and columns can have what is wanted.
    pub(in crate::api) fn check(&self, table: &Table) -> Result<Target, Error> {
        let moment = match self.timing {
            Timing::Row => Moment::Before,
            Timing::Statement | Timing::Queue => Moment::After,
        };
        if table.kind() == Kind::Other {
            return Err(table.unfit(TableFault::Kind));
        }
        if self.columns.is_empty() {
            return Err(Error::NoColumns);
        }
        let target = Target::new(table, &self.embedding, &self.model, &self.columns, moment)?;
        if let Some(provenance) = &self.provenance {
            if *provenance == self.embedding || self.columns.contains(provenance) {
                return Err(table.fault(provenance, ColumnFault::Repeated));
            }
            table.hash_column(&table.column(provenance)?)?;
        }
        if self.timing != Timing::Row {
            check_kind(table)?;
            table.primary_key()?;
            if table.column(&self.embedding)?.not_null {
                let timing = self.timing.name();
                return Err(table.fault(&self.embedding, ColumnFault::NotNull { timing }));
            }
        }
        Ok(target)
    }

    /// Whether the triggers are those that would be made, and fire as these would.
    fn is_fulfilled_by(&self, table: &Table, fillers: &[Filler]) -> bool {
        let mut kinds: Vec<u32> = fillers.iter().map(|filler| filler.trigger.kind).collect();
        kinds.sort_unstable();
        kinds == self.kinds()
            && (self.timing != Timing::Queue || existing_queue(table, fillers).is_some())
            && fillers.iter().all(|filler| {
                filler.timing == self.timing
                    && filler.trigger.fires()
                    && filler.noted.provenance == self.provenance
            })
    }

    /// When the triggers fire, as `tgtype` has it.
    fn kinds(&self) -> Vec<u32> {
        use pg_sys::{TRIGGER_TYPE_BEFORE, TRIGGER_TYPE_INSERT, TRIGGER_TYPE_ROW, TRIGGER_TYPE_UPDATE};
        match self.timing {
            Timing::Row => {
                vec![TRIGGER_TYPE_ROW | TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE]
            }
            Timing::Statement | Timing::Queue => vec![TRIGGER_TYPE_INSERT, TRIGGER_TYPE_UPDATE],
        }
    }

    /// Makes the triggers, and a queue where they need one, unless there is one of triggers that have been dropped. That
    /// they fit, and the model, has been checked.
    pub(in crate::api) fn create(&self, table: &Table, hash: &str, dropped: &[Filler]) -> Result<(), Error> {
        let queue = self.queue(table, dropped)?;
        self.create_with(table, hash, queue.as_deref())
    }

    fn create_with(&self, table: &Table, hash: &str, queue: Option<&str>) -> Result<(), Error> {
        let (provenance, replaces) = (self.provenance.as_deref(), self.replaces.as_deref());
        // A trigger that writes to another table is only believed if its arguments are recorded.
        let arguments: Vec<&String> = if queue.is_some() { self.arguments().collect() } else { Vec::new() };
        let record = Record { timing: self.timing, hash, arguments: &arguments, provenance, replaces, queue };
        let events: &[(&str, &str)] = match self.timing {
            Timing::Row => &[("", "BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW")],
            Timing::Statement | Timing::Queue => &[
                ("_insert", "AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT"),
                (
                    "_update",
                    "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows \
                     FOR EACH STATEMENT",
                ),
            ],
        };
        let arguments =
            self.arguments().map(|argument| quote_literal(argument)).collect::<Vec<_>>().join(", ");
        let quoted_table = table.quoted_name();
        for (suffix, event) in events {
            let plain_name = trigger_name(table, &self.embedding, suffix);
            if self.timing == Timing::Row {
                warn_of_later(table, &plain_name);
            }
            let name = quote_identifier(&plain_name);
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

/// Warns of triggers of others that come after one of this name and may change the text once more.
fn warn_of_later(table: &Table, name: &str) {
    let ours = trigger_function(Timing::Row.function());
    let is_later =
        |trigger: &TriggerEntry| trigger.changes_rows() && trigger.function != ours && *trigger.name > *name;
    for later in table.triggers().into_iter().filter(is_later) {
        warning::later_trigger(&later.name, name);
    }
}

pub(in crate::api) fn drop_trigger(table: &Table, trigger: &TriggerEntry) -> Result<(), Error> {
    let name = quote_identifier(&trigger.name);
    spi::execute(&format!("DROP TRIGGER {name} ON {}", table.quoted_name()))
}

/// A name that tells which column or table the trigger fills, cut to what a name may have, and numbered if it is taken.
pub(super) fn trigger_name(table: &Table, embedding: &str, suffix: &str) -> String {
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
