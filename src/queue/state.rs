//! What queues show of themselves.

use super::items::LONGEST_LOCKED_PAUSE;
use super::{Queue, nothing, number};
use crate::error::Error;
use crate::pg::exact::Exact;
use crate::pg::table::quote_literal;

/// What is in a queue.
pub(crate) struct Depth {
    pub(crate) items: i64,
    /// Those of rows that have failed, which wait for their next attempt.
    pub(crate) failed: i64,
    /// When the first of the others was added.
    pub(crate) oldest: Option<String>,
}

/// A row that has failed. What is told of times can be read again.
pub(crate) struct Failed {
    /// A JSON object.
    pub(crate) key: String,
    pub(crate) sqlstate: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) attempts: i32,
    pub(crate) next_try: String,
}

const HAS_FAILED: &str = "q.attempts OPERATOR(pg_catalog.>) 0";

impl Queue<'_> {
    /// Whether there are items that wait for a worker, and not for their next attempt after a failure. By indexes: however
    /// deep the queue is, and however many have failed, it is not gone through.
    pub(crate) fn is_waiting(&self) -> Result<bool, Error> {
        let from = self.from();
        // Rows that somebody had locked have not failed, and are tried again within a minute.
        let sql = format!(
            "SELECT q.id FROM {from} WHERE q.next_try IS NULL UNION ALL SELECT q.id FROM {from} WHERE NOT ({HAS_FAILED}) \
             AND q.next_try OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.+) \
             pg_catalog.make_interval(secs => {LONGEST_LOCKED_PAUSE})) LIMIT 1"
        );
        let _in_order = Exact::in_order();
        Ok(nothing().query(self.table.owner(), &sql)?.next_row().is_some())
    }

    pub(crate) fn depth(&self) -> Result<Depth, Error> {
        let mut row = self.ask(&format!(
            "pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE {HAS_FAILED}), \
             pg_catalog.min(q.queued_at) FILTER (WHERE NOT {HAS_FAILED})"
        ))?;
        let (items, failed) = (number(row.first())?, number(row.get(1))?);
        Ok(Depth { items, failed, oldest: row.pop().flatten() })
    }

    pub(crate) fn failures(&self) -> Result<Vec<Failed>, Error> {
        let key = self.key.iter().zip(self.key_columns()).map(|(column, of_item)| {
            format!("{}, {of_item}", quote_literal(&self.relation.column_name(column.number)))
        });
        let sql = format!(
            "SELECT pg_catalog.jsonb_build_object({}), q.sqlstate, q.message, q.attempts, q.next_try \
             FROM {} WHERE {HAS_FAILED} ORDER BY q.id",
            key.collect::<Vec<_>>().join(", "),
            self.from()
        );
        let answer = nothing().query(self.table.owner(), &sql)?;
        answer
            .map(|row| match <[Option<String>; 5]>::try_from(row?) {
                Ok([Some(key), sqlstate, message, attempts, next_try]) => Ok(Failed {
                    key,
                    sqlstate,
                    message,
                    attempts: number(Some(&attempts))? as i32,
                    next_try: next_try.unwrap_or_else(|| "-infinity".to_owned()),
                }),
                _ => Err(Error::Internal("a failure is not as it was asked for")),
            })
            .collect()
    }
}
