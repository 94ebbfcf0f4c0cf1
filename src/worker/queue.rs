//! A queue worker: serves the queues of one database until there is nothing to do for a while.
//!
//! The session is that of a superuser. What it does to a table it does as the table's owner, in a restricted operation, so
//! that nothing that belongs to others ever runs with more.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::serve::{self, Progress};
use crate::error::Failure;
use crate::pg::queue_notes::{self, Again, Rate};
use crate::pg::runtime_dir::Lock;
use crate::pg::session::{self, Mode};
use crate::pg::{background, latch};
use crate::queue::{self, Served};

/// A worker that has had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(5);
/// How often an idle one looks whether it is in the way.
const LOOK: Duration = Duration::from_millis(250);
/// How long it works before it makes room for other databases.
const TURN: Duration = Duration::from_secs(2);
/// How long a queue is left alone that could not be served.
const PAUSE: Duration = Duration::from_secs(30);
/// A batch is as large as may be done in this time, so that whoever wants a worker out of his way, DROP DATABASE for
/// example, which waits for five seconds, does not give up before.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// Items of a batch: to begin with, and the least and the most.
const FIRST_ITEMS: usize = 100;
const LEAST_ITEMS: usize = 10;
const MOST_ITEMS: usize = 1000;
/// Over which time rates are counted.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Entry point of the background worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn vector_embed_queue_worker_main(argument: pg_sys::Datum) {
    background::serve_signals();
    match argument.value() as u32 {
        0 => list_databases(),
        database => serve(database),
    }
}

fn list_databases() {
    background::connect(None);
    match session::transaction(Mode::Read, || Ok(session::databases())) {
        Ok(databases) => queue_notes::tell_databases(&databases),
        Err(failure) => warning!("vector_embed: could not list the databases: {}", failure.message),
    }
}

fn serve(database: u32) {
    // Two workers would only do the same. The other one may be one of a supervisor that has ended.
    let Ok(Some(_lock)) = Lock::Worker(database).try_take() else { return };
    background::connect(Some(database));
    session::set(c"application_name", c"vector_embed queue worker");
    // Whoever has a table locked holds up his own rows only.
    session::set(c"lock_timeout", c"2s");
    // Nobody's rows wait because of a limit that is meant for sessions.
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    session::set(c"transaction_timeout", c"0");
    session::set(c"search_path", c"pg_catalog, pg_temp");
    session::set(c"default_transaction_isolation", c"read committed");
    session::set(c"default_transaction_read_only", c"off");
    let mut worker = Worker { database, items: FIRST_ITEMS, paused: HashMap::new(), rates: Rates::default() };
    match worker.run() {
        Ok(again) => queue_notes::tell_served(database, again),
        Err(failure) => warning!("vector_embed: queue worker failed: {}", failure.message),
    }
    queue_notes::tell_rates(database, &[]);
}

struct Worker {
    database: u32,
    /// How many items are taken at once.
    items: usize,
    /// Queues of tables that could not be served, by name, and until when they are left alone.
    paused: HashMap<(pg_sys::Oid, String), Instant>,
    rates: Rates,
}

/// What one round through the queues came to.
struct Round {
    has_queues: bool,
    has_worked: bool,
    /// Whether a queue is left alone from now on.
    has_failed: bool,
    /// Whether it was cut short because the worker is in somebody's way.
    is_cut: bool,
    /// When rows are due that wait for their time.
    next: Option<SystemTime>,
}

impl Round {
    fn is_due(&mut self, time: SystemTime) {
        self.next = Some(self.next.map_or(time, |next| next.min(time)));
    }
}

impl Worker {
    fn run(&mut self) -> Result<Again, Failure> {
        let begin = Instant::now();
        let mut idle_since = begin;
        loop {
            background::reload_if_told();
            let round = self.round()?;
            let again = match round.next {
                _ if !round.has_queues => return Ok(Again::Never),
                Some(next) => Again::At(next),
                None => Again::Sometime,
            };
            let is_waiting = queue_notes::is_waiting();
            if round.is_cut || (round.has_worked && is_waiting && begin.elapsed() > TURN) {
                return Ok(Again::At(SystemTime::now()));
            }
            // After a failure others are looked for, for whom nobody wakes the worker again, while it knows what to leave alone.
            if round.has_worked || round.has_failed {
                idle_since = Instant::now();
                continue;
            }
            if !self.wait(idle_since, round.next) {
                return Ok(again);
            }
        }
    }

    /// Waits for work; false if the worker is to end.
    fn wait(&mut self, idle_since: Instant, next: Option<SystemTime>) -> bool {
        self.rates.tell(self.database);
        loop {
            if idle_since.elapsed() >= IDLE || queue_notes::is_waiting() || session::is_in_the_way() {
                return false;
            }
            let until_next = next.map(|next| next.duration_since(SystemTime::now()).unwrap_or_default());
            if until_next.is_some_and(|time| time.is_zero()) {
                return true;
            }
            if latch::sleep_or_wake(until_next.unwrap_or(LOOK).min(LOOK)) {
                return true;
            }
        }
    }

    /// Serves a batch of each queue.
    fn round(&mut self) -> Result<Round, Failure> {
        let relations = session::transaction(Mode::Read, || queue::relations(None))?;
        let mut round = Round {
            has_queues: !relations.is_empty(),
            has_worked: false,
            has_failed: false,
            is_cut: false,
            next: None,
        };
        for relation in relations {
            for queue in serve::queues(relation).unwrap_or_else(|failure| vec![Err(failure)]) {
                self.serve(relation, queue, &mut round);
                self.rates.tell_sometimes(self.database);
                if session::is_in_the_way() {
                    round.is_cut = true;
                    return Ok(round);
                }
            }
        }
        Ok(round)
    }

    /// Serves a batch of a queue, unless it is left alone for the time being.
    fn serve(&mut self, relation: pg_sys::Oid, queue: Result<Served, Failure>, round: &mut Round) {
        let begin = Instant::now();
        let name = queue.as_ref().map(|queue| queue.queue.clone()).unwrap_or_default();
        let place = (relation, name);
        if let Some(until) = self.paused.get(&place).filter(|until| **until > begin) {
            round.is_due(SystemTime::now() + (*until - begin));
            return;
        }
        match queue.and_then(|queue| serve::batch(&queue, self.items)) {
            Ok(Progress { rows, next }) => {
                self.paused.remove(&place);
                round.has_worked |= rows.is_some_and(|(_, rows)| rows > 0);
                if begin.elapsed() > BATCH_TIME {
                    self.items = (self.items / 2).max(LEAST_ITEMS);
                } else if begin.elapsed() < BATCH_TIME / 2 && rows.is_some() {
                    self.items = (self.items * 2).min(MOST_ITEMS);
                }
                rows.into_iter().for_each(|(queue, rows)| self.rates.count(queue, rows));
                next.into_iter().for_each(|time| round.is_due(time));
            }
            Err(failure) => {
                let ((relation, name), state) = (&place, failure.sqlstate());
                let relation = relation.to_u32();
                warning!(
                    "vector_embed: could not serve the queue \"{name}\" of the table with OID {relation}: {} ({state})",
                    failure.message
                );
                self.paused.insert(place, Instant::now() + PAUSE);
                round.has_failed = true;
                round.is_due(SystemTime::now() + PAUSE);
            }
        }
    }
}

/// How many rows of each queue were done lately.
#[derive(Default)]
struct Rates {
    done: Vec<(Instant, u32, usize)>,
    told: Option<Instant>,
}

impl Rates {
    fn count(&mut self, queue: u32, rows: usize) {
        let now = Instant::now();
        self.done.retain(|(time, ..)| now.duration_since(*time) < RATE_WINDOW);
        if rows > 0 {
            self.done.push((now, queue, rows));
        }
    }

    fn tell_sometimes(&mut self, database: u32) {
        if self.told.is_none_or(|told| told.elapsed() > Duration::from_secs(1)) {
            self.tell(database);
        }
    }

    fn tell(&mut self, database: u32) {
        let mut rows: HashMap<u32, usize> = HashMap::new();
        for (time, queue, count) in &self.done {
            if time.elapsed() < RATE_WINDOW {
                *rows.entry(*queue).or_default() += count;
            }
        }
        let rates: Vec<Rate> = rows
            .into_iter()
            .map(|(queue, rows)| Rate { queue, rows_per_second: rows as f64 / RATE_WINDOW.as_secs_f64() })
            .collect();
        queue_notes::tell_rates(database, &rates);
        self.told = Some(Instant::now());
    }
}
