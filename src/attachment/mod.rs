//! What is attached to a table: triggers with a comment that records the model they were made for.

pub(crate) mod chunks;
pub(crate) mod target;

use serde::{Deserialize, Serialize};
use vector_embed_protocol::is_model_hash;

use crate::error::{Error, TableFault};
use crate::pg::table::{Kind, Table};
use crate::pg::table_triggers::{TriggerEntry, trigger_comment, trigger_function};
use crate::pg::trigger::TriggerCall;

/// How a comment of `attach` begins; the rest is JSON.
const MARK: &str = "vector_embed {";

/// When vectors are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Timing {
    /// With the row.
    Row,
    /// With the statement.
    Statement,
    /// After the transaction, by a background worker.
    Queue,
}

impl Timing {
    /// What `attach` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Statement => "statement",
            Self::Queue => "queue",
        }
    }

    /// Every one.
    pub(crate) fn all() -> [Self; 3] {
        [Self::Row, Self::Statement, Self::Queue]
    }

    /// The trigger function.
    pub(crate) fn function(self) -> &'static str {
        match self {
            Self::Row => "embed_row",
            Self::Statement => "embed_statement",
            Self::Queue => "embed_later",
        }
    }
}

/// What `attach` records in the comments of its triggers. Dumps carry it.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    /// For people; the trigger's function says it.
    pub(crate) timing: Timing,
    /// The hash of the model that the vectors are made with.
    pub(crate) hash: &'a str,
    /// Those of a trigger that writes to another table, for [`is_recorded`].
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) arguments: &'a [&'a String],
    /// See [`Noted`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provenance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replaces: Option<&'a str>,
    /// The table that rows are queued in, which is in the schema of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<&'a str>,
}

impl Record<'_> {
    pub(crate) fn to_comment(&self) -> String {
        let json = serde_json::to_string(self).expect("a record is plain JSON");
        format!("vector_embed {json}")
    }
}

/// What a trigger's comment says of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Nothing: the trigger was made by hand, or cloned to a partition.
    Nothing,
    /// That it has this hash.
    Hash(String),
    /// `attach` has written it, and somebody has edited it.
    Unreadable,
}

impl Recorded {
    pub(crate) fn from_comment(comment: Option<&str>) -> Self {
        #[derive(Deserialize)]
        struct Read {
            hash: String,
        }
        let Some(comment) = comment.filter(|comment| comment.starts_with(MARK)) else { return Self::Nothing };
        match serde_json::from_str::<Read>(&comment[MARK.len() - 1..]) {
            Ok(Read { hash }) if is_model_hash(&hash) => Self::Hash(hash),
            _ => Self::Unreadable,
        }
    }
}

/// What else a trigger's comment says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Noted {
    /// The hash of the model by which all vectors are being made anew: what is made meanwhile is its work already.
    pub(crate) next: Option<String>,
    /// The column that keeps the hash with each row.
    pub(crate) provenance: Option<String>,
    /// The column that this one is to take the place of.
    pub(crate) replaces: Option<String>,
}

impl Noted {
    pub(crate) fn from_comment(comment: Option<&str>) -> Self {
        let json = comment.and_then(|comment| comment.strip_prefix(MARK.trim_end_matches('{')));
        let noted: Self = json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        Self { next: noted.next.filter(|next| is_model_hash(next)), ..noted }
    }
}

/// The comment with another hash, or with another that is to come; all else is as it was. `None` if it is no comment of
/// `attach`.
pub(crate) fn comment_with(comment: &str, hash: Option<&str>, next: Option<&str>) -> Option<String> {
    let json = comment.strip_prefix(MARK.trim_end_matches('{'))?;
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).ok()?;
    if let Some(hash) = hash {
        fields.insert("hash".to_owned(), hash.into());
    }
    match next {
        Some(next) => fields.insert("next".to_owned(), next.into()),
        None => fields.remove("next"),
    };
    let json = serde_json::to_string(&fields).expect("a record is plain JSON");
    Some(format!("vector_embed {json}"))
}

/// A trigger that fills a vector column.
#[derive(Debug, Clone)]
pub(crate) struct Filler {
    pub(crate) trigger: TriggerEntry,
    pub(crate) timing: Timing,
    pub(crate) recorded: Recorded,
    pub(crate) noted: Noted,
    /// The table that rows are queued in, if that is recorded for these arguments.
    pub(crate) queue: Option<String>,
}

impl Filler {
    pub(crate) fn embedding(&self) -> &str {
        self.trigger.arguments.first().map_or("", String::as_str)
    }

    pub(crate) fn model(&self) -> &str {
        self.trigger.arguments.get(1).map_or("", String::as_str)
    }

    pub(crate) fn columns(&self) -> &[String] {
        self.trigger.arguments.get(2..).unwrap_or_default()
    }

    /// Whether `attach` made it.
    pub(crate) fn is_attached(&self) -> bool {
        self.recorded != Recorded::Nothing
    }
}

/// The triggers of a table that fill vector columns.
pub(crate) fn fillers(table: &Table) -> Vec<Filler> {
    let functions = Timing::all().map(|timing| (timing, trigger_function(timing.function())));
    let mut fillers = Vec::new();
    for trigger in table.triggers() {
        if let Some((timing, _)) = functions.iter().find(|(_, function)| *function == trigger.function) {
            let comment = trigger_comment(trigger.oid);
            let recorded = Recorded::from_comment(comment.as_deref());
            let noted = Noted::from_comment(comment.as_deref());
            let queue = recorded_queue(comment.as_deref(), &trigger.arguments);
            fillers.push(Filler { trigger, timing: *timing, recorded, noted, queue });
        }
    }
    fillers
}

/// What the comment of the trigger that runs asks for.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// The hash that the model must have; `None` if the trigger was not made by `attach`.
    pub(crate) hash: Option<String>,
    /// The number of the column that keeps it with each row.
    pub(crate) provenance: Option<i16>,
}

impl Terms {
    pub(crate) fn of(call: &TriggerCall<'_>) -> Result<Self, Error> {
        let comment = call.comment();
        let hash = match Recorded::from_comment(comment.as_deref()) {
            Recorded::Nothing => return Ok(Self::default()),
            Recorded::Hash(hash) => hash,
            Recorded::Unreadable => return Err(Error::TriggerComment(call.name())),
        };
        let noted = Noted::from_comment(comment.as_deref());
        let table = call.table();
        let column = |name: &String| table.column(name).and_then(|column| table.hash_column(&column));
        Ok(Self {
            hash: Some(noted.next.unwrap_or(hash)),
            provenance: noted.provenance.as_ref().map(column).transpose()?,
        })
    }
}

/// The hash that the model of the trigger that runs must have; `None` if it was not made by `attach`.
pub(crate) fn recorded_hash(call: &TriggerCall<'_>) -> Result<Option<String>, Error> {
    Ok(Terms::of(call)?.hash)
}

/// Whether a comment records these arguments. Only a table's owner can comment on its triggers; others may make them, and
/// replace those that there are, which keep their comments, where TRIGGER is granted to them.
pub(crate) fn is_recorded(comment: Option<&str>, arguments: &[String]) -> bool {
    read_recorded(comment).is_some_and(|read| read.arguments == arguments)
}

/// The queue that a comment records for these arguments.
pub(crate) fn recorded_queue(comment: Option<&str>, arguments: &[String]) -> Option<String> {
    read_recorded(comment).filter(|read| read.arguments == arguments)?.queue
}

/// The queue that a comment records for whatever arguments.
pub(crate) fn queue_in(comment: &str) -> Option<String> {
    read_recorded(Some(comment))?.queue
}

#[derive(Deserialize)]
struct WithArguments {
    arguments: Vec<String>,
    queue: Option<String>,
}

fn read_recorded(comment: Option<&str>) -> Option<WithArguments> {
    serde_json::from_str(comment?.strip_prefix(MARK.trim_end_matches('{'))?).ok()
}

/// Fails unless rows can be written back to a table of this kind.
pub(crate) fn check_kind(table: &Table) -> Result<(), Error> {
    match table.kind() {
        Kind::Ordinary if table.has_parent() => Err(table.unfit(TableFault::HasParent)),
        Kind::Ordinary => Ok(()),
        Kind::Partitioned => Err(table.unfit(TableFault::NoStatements { kind: "partitioned" })),
        Kind::Foreign => Err(table.unfit(TableFault::NoStatements { kind: "a foreign table" })),
        Kind::Other => Err(table.unfit(TableFault::Kind)),
    }
}
