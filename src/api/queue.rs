//! What users see of queues: `vector_embed.queue`, `vector_embed.failures`, `retry_failures`, `drain`.

use std::time::{Duration, Instant};

use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::client::{self, vectors};
use crate::error::{Error, OrRaise};
use crate::pg::exact::Exact;
use crate::pg::identity::Restricted;
use crate::pg::lookup::{current_database, current_user};
use crate::pg::procedure::ProcedureCall;
use crate::pg::queue_notes;
use crate::pg::settings;
use crate::pg::table::Table;
use crate::pg::text::ServerText;
use crate::pg::transaction::{Committing, attempt, refuse_on_standby};
use crate::pg::warning::{self, notice};
use crate::pg::{latch, wake};
use crate::queue::{self, Access, Queue, Served};
use vector_embed_protocol::Purpose;

/// How often `drain` looks.
const LOOK: Duration = Duration::from_millis(25);
/// How often it makes sure that there is somebody who does the work.
const CHECK: Duration = Duration::from_secs(2);

type Depths = TableIterator<
    'static,
    (
        name!(relation, pg_sys::Oid),
        name!(embedding, ServerText),
        name!(queue, Option<pg_sys::Oid>),
        name!(depth, Option<i64>),
        name!(failed, Option<i64>),
        name!(oldest, Option<ServerText>),
        name!(rate, Option<f64>),
    ),
>;

#[pg_extern(sql = false)]
fn queue_depths() -> Depths {
    let depths = || {
        let rates = queue_notes::rates(current_database());
        let mut rows = Vec::new();
        of_user(|relation, served| {
            let embedding = ServerText(served.work.column());
            let queue = Queue::open(relation, &served.queue, Access::Read);
            // What the owner has done to it is his, and is to hide nobody else's.
            let counted = queue.as_ref().map(|queue| attempt(|| queue.depth()));
            let (Ok(queue), Ok(Ok(counted))) = (&queue, counted) else {
                // It is not there, or not as it should be.
                rows.push((relation.oid(), embedding, None, None, None, None, None));
                return Ok(());
            };
            let oid = queue.table.oid();
            let rate = rates.iter().find(|rate| rate.queue == oid.to_u32());
            let rate = rate.map_or(0.0, |rate| rate.rows_per_second);
            let oldest = counted.oldest.map(ServerText);
            let (items, failed) = (Some(counted.items), Some(counted.failed));
            rows.push((relation.oid(), embedding, Some(oid), items, failed, oldest, Some(rate)));
            Ok(())
        })?;
        Ok(rows)
    };
    TableIterator::new(depths().or_raise())
}

type Failures = TableIterator<
    'static,
    (
        name!(relation, pg_sys::Oid),
        name!(embedding, ServerText),
        name!(key, ServerText),
        name!(sqlstate, Option<ServerText>),
        name!(message, Option<ServerText>),
        name!(attempts, i32),
        name!(next_try, ServerText),
    ),
>;

#[pg_extern(sql = false)]
fn queue_failures() -> Failures {
    let failures = || {
        let mut rows = Vec::new();
        of_user(|relation, served| {
            let Ok(queue) = Queue::open(relation, &served.queue, Access::Read) else { return Ok(()) };
            let Ok(failures) = attempt(|| queue.failures()) else { return Ok(()) };
            for failed in failures {
                let (key, next_try) = (ServerText(failed.key), ServerText(failed.next_try));
                let (sqlstate, message) = (failed.sqlstate.map(ServerText), failed.message.map(ServerText));
                let embedding = ServerText(served.work.column());
                rows.push((relation.oid(), embedding, key, sqlstate, message, failed.attempts, next_try));
            }
            Ok(())
        })?;
        Ok(rows)
    };
    TableIterator::new(failures().or_raise())
}

/// Calls `look` for what is served from queues of tables whose owner's privileges the user has. What belongs to the queue's
/// owner runs as this owner: the user is perhaps a superuser, who only wants to look.
fn of_user(mut look: impl FnMut(&Table, &Served) -> Result<(), Error>) -> Result<(), Error> {
    for relation in queue::relations(Some(current_user()))? {
        let table = match Table::open_briefly(relation) {
            Ok(table) => table,
            // It was dropped meanwhile.
            Err(Error::NoRelation(_)) => continue,
            Err(error) => return Err(error),
        };
        let all: Vec<Served> = queue::served(&table).into_iter().flatten().collect();
        let _owner = Restricted::owner(table.owner());
        let _exact = Exact::new();
        all.iter().try_for_each(|served| look(&table, served))?;
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn retry_failures(relation: pg_sys::Oid) -> i64 {
    let retried = || {
        let table = Table::look_at(relation)?;
        let mut count = 0;
        for served in queue::served(&table) {
            let served = served?;
            let queue = Queue::open(&table, &served.queue, Access::Write)?;
            let _owner = Restricted::owner(table.owner());
            count += queue.retry()?;
        }
        if count > 0 && wake::after_commit() {
            client::ensure_supervisor()?;
        }
        Ok(count as i64)
    };
    retried().or_raise()
}

#[pg_extern(sql = false)]
fn drain(relation: Option<pg_sys::Oid>, timeout: Option<Interval>, call: ProcedureCall) {
    let drained = || {
        let relation = relation.ok_or(Error::Null("relation"))?;
        let timeout =
            timeout.map(|timeout| Duration::from_micros(u64::try_from(timeout.as_micros()).unwrap_or(0)));
        refuse_on_standby(c"CALL drain");
        let transaction = Committing::begin("vector_embed.drain", &call)?;
        wait_until_empty(&transaction, relation, timeout)
    };
    drained().or_raise();
}

fn wait_until_empty(
    transaction: &Committing,
    relation: pg_sys::Oid,
    timeout: Option<Duration>,
) -> Result<(), Error> {
    let begin = Instant::now();
    let mut checked: Option<Instant> = None;
    loop {
        let served = {
            let table = Table::look_at(relation)?;
            let served = queue::served(&table).into_iter().collect::<Result<Vec<_>, _>>()?;
            let queues: Vec<Queue<'_>> = served
                .iter()
                .map(|served| Queue::open(&table, &served.queue, Access::Read))
                .collect::<Result<_, _>>()?;
            let _owner = Restricted::owner(table.owner());
            let mut is_waiting = false;
            for queue in &queues {
                is_waiting = is_waiting || queue.is_waiting()?;
            }
            let is_over = timeout.is_some_and(|timeout| begin.elapsed() >= timeout);
            if !is_waiting || is_over {
                return end(&table, &queues, is_waiting);
            }
            served
        };
        // Nothing is held while others work, not even a snapshot.
        transaction.commit();
        if checked.is_none_or(|checked| checked.elapsed() > CHECK) {
            served.iter().try_for_each(check)?;
            client::ensure_supervisor()?;
            wake::wake_for_this_database();
            checked = Some(Instant::now());
        }
        latch::sleep(LOOK);
        transaction.look();
    }
}

/// What the waiting for a table's queues came to.
fn end(table: &Table, queues: &[Queue<'_>], is_waiting: bool) -> Result<(), Error> {
    let name = table.name();
    if queues.is_empty() {
        notice(format!("relation \"{name}\" has no queue, skipping"));
        return Ok(());
    }
    let (mut items, mut failed) = (0, 0);
    for queue in queues {
        let depth = queue.depth()?;
        items += depth.items - depth.failed;
        failed += depth.failed;
    }
    // Perhaps they have just been done.
    if is_waiting && items > 0 {
        return Err(Error::StillWaiting { table: name, items });
    }
    if failed > 0 {
        warning::failed_rows(&name, failed);
    }
    Ok(())
}

/// Fails if nobody could do what the queue is for, with the reason.
fn check(served: &Served) -> Result<(), Error> {
    if settings::queue_workers() == 0 {
        return Err(Error::NoQueueWorkers);
    }
    let work = &served.work;
    let wanted =
        vectors::Wanted { model: work.model(), purpose: Purpose::Document, expected_hash: work.hash() };
    vectors::embed(&[""], &wanted, &mut |_, _| {}).map_err(Error::without_place)
}
