//! Warnings and notices.

use std::cell::Cell;

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::text::for_server;

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
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING_STRING_DATA_RIGHT_TRUNCATION,
        format!("text was truncated to the limit of model \"{model}\""),
        "vector_embed",
    )
    .set_hint("Set vector_embed.overlong_text to \"error\" to refuse such texts.")
    .report(pgrx::PgLogLevel::WARNING);
}

/// Tells that nothing was to be done.
pub(crate) fn notice(message: String) {
    ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, for_server(message), "vector_embed")
        .report(pgrx::PgLogLevel::NOTICE);
}

/// Warns that a trigger comes after ours and may change a text whose vector has been made.
pub(crate) fn later_trigger(later: &str, ours: &str) {
    let code = PgSqlErrorCode::ERRCODE_WARNING;
    let message = format!("trigger \"{later}\" fires after \"{ours}\"");
    ErrorReport::new(code, for_server(message), "vector_embed")
        .set_detail("If it changes the text, the vector will be that of the text before.")
        .set_hint(for_server(format!("Rename it to a name that sorts before \"{ours}\".")))
        .report(pgrx::PgLogLevel::WARNING);
}
