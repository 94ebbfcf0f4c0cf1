//! Warnings and notices.

use std::cell::Cell;

use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

use vector_embed_sources::Losses;

use super::message::Message;
use crate::error::Error;

thread_local! {
    /// Start of the statement that was warned last.
    static WARNED: Cell<pg_sys::TimestampTz> = const { Cell::new(0) };
}

/// Warns that texts were cut to the model's limit, unless this statement has been told already.
pub(crate) fn truncated(model: &str) {
    // SAFETY: reads a variable of the process.
    let statement = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    if WARNED.replace(statement) == statement {
        return;
    }
    Message {
        code: PgSqlErrorCode::ERRCODE_WARNING_STRING_DATA_RIGHT_TRUNCATION,
        message: format!("text was truncated to the limit of model \"{model}\""),
        detail: None,
        hint: Some("Set vector_embed.overlong_text to \"error\" to refuse such texts.".to_owned()),
    }
    .report(PgLogLevel::WARNING);
}

/// Tells that nothing was to be done.
pub(crate) fn notice(message: String) {
    let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    Message { code, message, detail: None, hint: None }.report(PgLogLevel::NOTICE);
}

/// So many rows, in words.
fn rows(count: i64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

/// Warns that nobody serves queues at the moment.
pub(crate) fn no_supervisor(error: &Error) {
    Message {
        code: PgSqlErrorCode::ERRCODE_WARNING,
        message: "rows are queued, but cannot be embedded now".to_owned(),
        detail: Some(format!("The supervisor could not be started: {error}.")),
        hint: Some("They wait until a session can start it.".to_owned()),
    }
    .report(PgLogLevel::WARNING);
}

/// Warns that a queue has been emptied but for rows that have failed.
pub(crate) fn failed_rows(table: &str, items: i64) {
    Message {
        code: PgSqlErrorCode::ERRCODE_WARNING,
        message: format!("{} of relation \"{table}\" could not be embedded", rows(items)),
        detail: None,
        hint: Some("vector_embed.failures tells why, and when they are tried again.".to_owned()),
    }
    .report(PgLogLevel::WARNING);
}

/// Warns that rows of a queue that is dropped will not get what they waited for.
pub(crate) fn dropped_queue(table: &str, of: &str, count: i64) {
    Message {
        code: PgSqlErrorCode::ERRCODE_WARNING,
        message: format!("{} of relation \"{table}\" waited to be embedded", rows(count)),
        detail: Some(format!("What \"{of}\" has for them is not of their text.")),
        hint: None,
    }
    .report(PgLogLevel::WARNING);
}

/// Warns that a trigger comes after ours and may change a text whose vector has been made.
pub(crate) fn later_trigger(later: &str, ours: &str) {
    Message {
        code: PgSqlErrorCode::ERRCODE_WARNING,
        message: format!("trigger \"{later}\" fires after \"{ours}\""),
        detail: Some("If it changes the text, the vector will be that of the text before.".to_owned()),
        hint: Some(format!("Rename it to a name that sorts before \"{ours}\".")),
    }
    .report(PgLogLevel::WARNING);
}

/// Warns of what has not been read of a foreign table.
pub(crate) fn losses(table: &str, losses: Losses) {
    let values = match losses.values {
        0 => None,
        1 => Some("1 value was read as NULL".to_owned()),
        count => Some(format!("{count} values were read as NULL")),
    };
    let partial = match losses.partial {
        0 => None,
        1 => Some("1 value was read in part".to_owned()),
        count => Some(format!("{count} values were read in part")),
    };
    let rows = match (losses.rows, losses.incomplete) {
        (0, false) => None,
        (0, true) => Some("rows could not be read".to_owned()),
        (1, _) => Some("up to 1 row could not be read".to_owned()),
        (count, _) => Some(format!("up to {count} rows could not be read")),
    };
    let what = [values, partial, rows].into_iter().flatten().collect::<Vec<_>>().join(", and ");
    let message = format!("table \"{table}\": {what}");
    let detail = losses.first.map(|first| {
        let first = Error::Source(*first).message();
        let detail = first.detail.map_or_else(String::new, |detail| format!(" {detail}"));
        format!("The first: {}.{detail}", first.message)
    });
    Message { code: PgSqlErrorCode::ERRCODE_WARNING, message, detail, hint: None }
        .report(PgLogLevel::WARNING);
}

/// Warns of rows that have no vectors because of themselves; tells why of the first.
pub(crate) fn left(message: String, key: &str, code: &str, reason: &str) {
    Message {
        code: PgSqlErrorCode::ERRCODE_WARNING,
        message,
        detail: Some(format!("The first has key {key}, error {code}: {reason}.")),
        hint: Some("Change these rows, and call it again.".to_owned()),
    }
    .report(PgLogLevel::WARNING);
}
