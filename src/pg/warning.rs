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
    let rows = match (losses.rows, losses.incomplete) {
        (0, false) => None,
        (0, true) => Some("rows could not be read".to_owned()),
        (1, _) => Some("up to 1 row could not be read".to_owned()),
        (count, _) => Some(format!("up to {count} rows could not be read")),
    };
    let what = [values, rows].into_iter().flatten().collect::<Vec<_>>().join(", and ");
    let message = format!("table \"{table}\": {what}");
    let detail = losses.first.map(|first| {
        let first = Error::Source(*first).message();
        let detail = first.detail.map_or_else(String::new, |detail| format!(" {detail}"));
        format!("The first: {}.{detail}", first.message)
    });
    Message { code: PgSqlErrorCode::ERRCODE_WARNING, message, detail, hint: None }
        .report(PgLogLevel::WARNING);
}
