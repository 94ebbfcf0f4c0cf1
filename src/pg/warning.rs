//! Warnings that are given once in a statement.

use std::cell::Cell;

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

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
