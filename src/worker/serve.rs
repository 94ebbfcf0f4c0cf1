//! One batch of a queue: items are taken and rows read in a transaction, their texts embedded outside of any, and vectors
//! written and items deleted in another one.

use std::time::{Duration, SystemTime};

use pgrx::pg_sys;

use crate::error::{Error, Failure};
use crate::pg::identity::Restricted;
use crate::pg::session::{self, Mode};
use crate::pg::spi;
use crate::pg::table::Table;
use crate::queue::{self, Access, Item, Queue, Served, Todo, Work, WriteBack, is_subscribed};
use crate::refresh::chunks::ChunkBatch;
use crate::refresh::{Batch, Key, Locking, Outcome, Which};

/// How long a queue is left alone all of whose items are to be taken again.
const CHANGED_PAUSE: Duration = Duration::from_millis(100);

/// How long what belongs to a table's owner may run at once, while others wait for their turn.
const LONGEST: Duration = Duration::from_secs(60);

/// What was done for a queue.
pub(super) struct Progress {
    /// The number of the queue's table and how many rows were done, if some were tried. There may be none where rows have
    /// changed meanwhile, which are taken again.
    pub(super) rows: Option<(u32, usize)>,
    /// When rows are due that wait for their time.
    pub(super) next: Option<SystemTime>,
}

/// What a table is served from.
pub(super) fn queues(relation: pg_sys::Oid) -> Result<Vec<Result<Served, Failure>>, Failure> {
    session::transaction(Mode::Read, || match Table::open_briefly(relation) {
        Ok(table) => {
            let told = |queue: Result<Served, Error>| queue.map_err(|error| error.failure());
            Ok(queue::served(&table).into_iter().map(told).collect())
        }
        // It was dropped meanwhile.
        Err(Error::NoRelation(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    })
}

/// Serves a batch of a queue, of about so many items.
pub(super) fn batch(served: &Served, items: usize) -> Result<Progress, Failure> {
    let taken = session::limited(LONGEST, || session::transaction(Mode::Read, || take(served, items)))?;
    let Some(Taken { queue, items, mut batch, next }) = taken else {
        return Ok(Progress { rows: None, next: None });
    };
    if items.is_empty() {
        return Ok(Progress { rows: None, next });
    }
    session::guarded(|| session::with_memory(|| batch.embed(&served.work)))?;
    let settle = || settle(served, queue, items, batch);
    let done = session::limited(LONGEST, || session::transaction(Mode::Write, settle))?;
    // If none was done, all have changed meanwhile.
    let soon = (done == 0).then(|| SystemTime::now() + CHANGED_PAUSE);
    Ok(Progress { rows: Some((queue.to_u32(), done)), next: [next, soon].into_iter().flatten().min() })
}

/// Items, and what their rows were when they were taken.
struct Taken {
    queue: pg_sys::Oid,
    items: Vec<Item>,
    batch: Read,
    next: Option<SystemTime>,
}

/// Rows that were read.
enum Read {
    Rows(Batch),
    Documents(ChunkBatch),
}

impl Read {
    fn rows(work: &Work, keys: &[Key]) -> Result<Self, Error> {
        let which = Which::Keys(keys, None);
        match work {
            Work::Vector(job) => job.read(which).map(Self::Rows),
            Work::Chunks(job) => job.read(which).map(Self::Documents),
        }
    }

    fn embed(&mut self, work: &Work) -> Result<(), Error> {
        match (self, work) {
            (Self::Rows(batch), Work::Vector(job)) => job.embed(batch),
            (Self::Documents(batch), Work::Chunks(job)) => job.embed(batch),
            _ => Err(Error::Internal("rows were read for something else")),
        }
    }

    fn write(self, work: &Work) -> Result<Vec<(Key, Outcome)>, Error> {
        match (self, work) {
            (Self::Rows(batch), Work::Vector(job)) => job.write(batch, Locking::Skip),
            (Self::Documents(batch), Work::Chunks(job)) => job.write(batch, Locking::Skip),
            _ => Err(Error::Internal("rows were read for something else")),
        }
    }
}

/// Takes items and reads their rows. `None` if there is nothing to be served.
fn take(served: &Served, items: usize) -> Result<Option<Taken>, Error> {
    let relation = Table::open_briefly(served.work.relation())?;
    let queue = Queue::open(&relation, &served.queue, Access::Read)?;
    if is_subscribed(queue.table.oid())? {
        return Ok(None);
    }
    let _owner = Restricted::owner(relation.owner());
    let items = queue.take(items)?;
    let next = if items.is_empty() { queue.next_try()? } else { None };
    let wanted: Vec<Key> = items.iter().filter(|item| !item.supplied).map(|item| item.key.clone()).collect();
    let batch = Read::rows(&served.work, &wanted)?;
    Ok(Some(Taken { queue: queue.table.oid(), items, batch, next }))
}

/// Writes vectors and deletes the items, which are those of the queue with that OID; returns how many rows were done. None,
/// if what was attached when they were taken is attached no more: the vectors would be of another model or of other columns,
/// and the numbers those of other items.
fn settle(served: &Served, taken_from: pg_sys::Oid, items: Vec<Item>, batch: Read) -> Result<usize, Error> {
    let relation = match Table::open_briefly(served.work.relation()) {
        Err(Error::NoRelation(_)) => return Ok(0),
        relation => relation?,
    };
    if !queue::served(&relation).iter().flatten().any(|now| now == served) {
        return Ok(0);
    }
    let queue = Queue::open(&relation, &served.queue, Access::Write)?;
    if queue.table.oid() != taken_from {
        return Ok(0);
    }
    if !relation.takes_along(queue.table.oid())? {
        // A dump does not carry it.
        relation.take_along(queue.table.oid());
    }
    let _owner = Restricted::owner(relation.owner());
    // What the owner has deferred happens now, while it happens as the owner. Nothing can be deferred again: that is
    // an error in a restricted operation.
    spi::execute("SET CONSTRAINTS ALL IMMEDIATE")?;
    let outcomes = {
        let worker = WriteBack::to(relation.oid());
        let outcomes = batch.write(&served.work)?;
        let is_settled = |outcome: &Outcome| matches!(outcome, Outcome::Written | Outcome::Gone);
        let settled = outcomes.iter().filter(|(_, outcome)| is_settled(outcome)).map(|(key, _)| key);
        worker.settled(relation.oid(), settled);
        outcomes
    };
    let mut todo: std::collections::HashMap<Key, Todo> =
        outcomes.into_iter().map(|(key, outcome)| (key, what_to_do(outcome))).collect();
    let settled: Vec<(Item, Todo)> = items
        .into_iter()
        .filter_map(|item| {
            // What was not read, because there was too much, is left for the next batch.
            let todo = if item.supplied { Some(Todo::Done) } else { todo.remove(&item.key) };
            todo.map(|todo| (item, todo))
        })
        .collect();
    queue.settle(&settled)?;
    Ok(settled.iter().filter(|(_, todo)| !matches!(todo, Todo::Changed)).count())
}

fn what_to_do(outcome: Outcome) -> Todo {
    match outcome {
        Outcome::Written | Outcome::Gone => Todo::Done,
        // Whoever has changed it has queued it again if it needs a vector; it is looked at again in any case.
        Outcome::Changed => Todo::Changed,
        Outcome::Locked => Todo::Later,
        Outcome::Failed(failure) => Todo::Failed(failure),
    }
}
