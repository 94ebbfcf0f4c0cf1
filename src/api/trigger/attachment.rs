//! What is attached to a table: triggers with a comment that records the model they were made for.

use serde::{Deserialize, Serialize};

use crate::pg::table::{Table, TriggerEntry, trigger_comment, trigger_function};
use crate::pg::trigger::TriggerCall;

/// How a comment of `attach` begins; the rest is JSON.
const MARK: &str = "vector_embed ";

/// When vectors are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Timing {
    /// With the row.
    Row,
    /// With the statement.
    Statement,
}

impl Timing {
    /// The trigger function.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Row => "embed_row",
            Self::Statement => "embed_statement",
        }
    }
}

/// What `attach` records in the comments of its triggers. Dumps carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) timing: Timing,
    /// The hash of the model that the vectors are made with.
    pub(super) hash: String,
}

impl Record {
    pub(super) fn to_comment(&self) -> String {
        let json = serde_json::to_string(self).expect("a record is plain JSON");
        format!("{MARK}{json}")
    }

    fn from_comment(comment: &str) -> Option<Self> {
        serde_json::from_str(comment.strip_prefix(MARK)?).ok()
    }
}

/// A trigger that fills a vector column.
#[derive(Debug, Clone)]
pub(super) struct Filler {
    pub(super) trigger: TriggerEntry,
    pub(super) timing: Timing,
    /// `None` if it was made by hand, or cloned to a partition.
    pub(super) record: Option<Record>,
}

impl Filler {
    pub(super) fn embedding(&self) -> &str {
        self.trigger.arguments.first().map_or("", String::as_str)
    }

    pub(super) fn model(&self) -> &str {
        self.trigger.arguments.get(1).map_or("", String::as_str)
    }

    pub(super) fn columns(&self) -> &[String] {
        self.trigger.arguments.get(2..).unwrap_or_default()
    }
}

/// The triggers of a table that fill vector columns.
pub(super) fn fillers(table: &Table) -> Vec<Filler> {
    let functions =
        [Timing::Row, Timing::Statement].map(|timing| (timing, trigger_function(timing.function())));
    let mut fillers = Vec::new();
    for trigger in table.triggers() {
        if let Some((timing, _)) = functions.iter().find(|(_, function)| *function == trigger.function) {
            let record = trigger_comment(trigger.oid).as_deref().and_then(Record::from_comment);
            fillers.push(Filler { trigger, timing: *timing, record });
        }
    }
    fillers
}

/// The hash that is recorded for the model of the trigger that runs; `None` if it was not made by `attach`.
pub(super) fn recorded_hash(call: &TriggerCall<'_>) -> Option<String> {
    call.comment().as_deref().and_then(Record::from_comment).map(|record| record.hash)
}
