//! `embed_later`: rows are queued, and their vectors are made when the transaction has been committed.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::changes::Changes;
use crate::attachment::recorded_queue;
use crate::attachment::target::Target;
use crate::client;
use crate::error::{Error, OrRaise, TriggerFault};
use crate::pg::exact::Exact;
use crate::pg::identity::Restricted;
use crate::pg::memory::Scratch;
use crate::pg::row::Row;
use crate::pg::table::KeyColumn;
use crate::pg::trigger::{Nothing, TriggerCall};
use crate::pg::{wake, warning};
use crate::queue::{self, Access, Additions, Queue};

const FUNCTION: &str = "embed_later";

#[pg_extern(sql = false)]
fn embed_later(call: TriggerCall<'_>) -> Nothing {
    if queue_rows(&call).or_raise() > 0 {
        wake_workers();
    }
    Nothing
}

/// Has workers look at what was queued when the transaction has been committed.
pub(super) fn wake_workers() {
    if wake::after_commit()
        && let Err(error) = client::ensure_supervisor()
    {
        // Nobody is to lose his rows because no worker can be started: they wait.
        warning::no_supervisor(&error);
    }
}

/// Queues the statement's rows that need their vectors made; returns how many.
fn queue_rows(call: &TriggerCall<'_>) -> Result<u64, Error> {
    let mut changes = Changes::of(call, FUNCTION)?;
    // Only the owner can have written the comment, so nobody else says to which table his privileges write.
    let name = recorded_queue(call.comment().as_deref(), &call.arguments());
    let no_queue =
        || Error::Trigger { function: FUNCTION, trigger: call.name(), fault: TriggerFault::NoQueue };
    let table = call.table();
    let queue = Queue::open(&table, &name.ok_or_else(no_queue)?, Access::Write)?;
    let mut additions = Additions::new(&queue);
    let by_worker = queue::is_written_by_worker(table.oid()) && call.depth() == 1;
    let target = changes.target.clone();
    let mut scratch = Scratch::new();
    {
        let _exact = Exact::for_others();
        while let Some((old, new)) = changes.next_row() {
            scratch.within(|| match old {
                Some(old) if by_worker => follow(&mut additions, &target, old, new),
                old => add(&mut additions, &target, old, new),
            })?;
            scratch.reset();
        }
    }
    append(&additions, table.owner())
}

/// Appends what was added, as the owner.
pub(super) fn append(additions: &Additions<'_>, owner: pg_sys::Oid) -> Result<u64, Error> {
    if additions.is_empty() {
        return Ok(0);
    }
    // The queue's owner may have put triggers on it. They are his own business, and not whoever's who writes rows.
    let _owner = Restricted::owner(owner);
    let _exact = Exact::new();
    additions.append()
}

/// Adds what has become of a row.
fn add(
    additions: &mut Additions<'_>,
    target: &Target,
    old: Option<Row<'_>>,
    new: Row<'_>,
) -> Result<(), Error> {
    let has_vector = new.has_vector(target.embedding);
    let is_stale = old.map_or(!has_vector, |old| target.is_stale(old, new));
    if is_stale {
        // Without text there is nothing to make, unless there is a vector to be made NULL.
        if has_vector || target.has_text(new) {
            additions.add(&key(additions, new)?);
        }
        return Ok(());
    }
    let is_supplied = old.is_none_or(|old| !new.has_vector_of(old, target.embedding));
    if is_supplied {
        // If the row waits for a vector, it waits no more.
        let key = key(additions, new)?;
        additions.add_supplied(&key);
    } else if let Some(old) = old
        && !additions.key().iter().all(|column| new.has_image_of(old, column.number))
    {
        let (old, new) = (key(additions, old)?, key(additions, new)?);
        additions.add_moved(&old, &new);
    }
    Ok(())
}

/// Adds a row that has just got its vector, if a trigger of the table's own has changed the text at that.
fn follow(additions: &mut Additions<'_>, target: &Target, old: Row<'_>, new: Row<'_>) -> Result<(), Error> {
    if target.text_differs(old, new) {
        let key = key(additions, new)?;
        queue::repeat(additions.relation(), &key)?;
        additions.add(&key);
    }
    Ok(())
}

fn key(additions: &Additions<'_>, row: Row<'_>) -> Result<Vec<CString>, Error> {
    key_of(additions.key(), row)
}

/// The values of a row's primary key as queues have them.
pub(super) fn key_of(key: &[KeyColumn], row: Row<'_>) -> Result<Vec<CString>, Error> {
    let missing = Error::Internal("a column of a primary key is NULL");
    key.iter().map(|column| row.raw(column.number)).collect::<Option<_>>().ok_or(missing)
}
