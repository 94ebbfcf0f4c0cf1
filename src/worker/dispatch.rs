//! Which databases get a queue worker, and when.
//!
//! The supervisor knows databases by their numbers only. It hears of work by notes in the runtime directory, visits all
//! databases once when it starts, and again once a minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use pgrx::prelude::*;

use crate::pg::background::{QueueWorker, is_standby};
use crate::pg::queue_notes::{self, Again};
use crate::pg::{settings, wake};

/// How often databases with queues are visited although nobody has asked for it: what prepared transactions have queued
/// is found in this way, and what a lost note was about.
const SLOW_CHECK: Duration = Duration::from_secs(60);
/// How often a standby looks whether it is one still.
const STANDBY_CHECK: Duration = Duration::from_secs(2);
/// How long to wait before a worker that found no slot is tried again.
const SLOT_CHECK: Duration = Duration::from_secs(1);
/// Delay after a worker's first failure in a row; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = SLOW_CHECK;
const IDLE: Duration = Duration::from_secs(600);

/// What is known of a database.
#[derive(Debug, Clone, Copy)]
struct Known {
    next_visit: Instant,
    /// Workers in a row that have ended without a last word.
    failures: u32,
}

struct Running {
    /// The database that it serves; `None` for one that lists the databases.
    database: Option<u32>,
    worker: QueueWorker,
    /// Whether rows were queued since it was started, which it may not have seen.
    asked_again: bool,
}

/// The queue workers.
pub(super) struct Dispatch {
    databases: BTreeMap<u32, Known>,
    /// Databases whose turn has come.
    waiting: VecDeque<u32>,
    running: Vec<Running>,
    /// Whether the databases are to be listed, and perhaps visited.
    list: Option<List>,
    /// When a slot may be free again, after there was none.
    next_start: Instant,
    /// When the databases are listed again, to find those that nobody has told of.
    next_list: Instant,
    has_told_of_slots: bool,
    has_told_waiting: bool,
}

/// What a list of databases is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    /// To visit all.
    Visit,
    /// To visit those that had no queues or were not there: a copied or restored database brings rows that wait, and a
    /// prepared transaction may have attached.
    Check,
    /// To forget those that are gone.
    Forget,
}

impl Dispatch {
    pub(super) fn new() -> Self {
        queue_notes::tell_waiting(false);
        Self {
            databases: BTreeMap::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            list: Some(List::Visit),
            next_start: Instant::now(),
            next_list: Instant::now() + SLOW_CHECK,
            has_told_of_slots: false,
            has_told_waiting: false,
        }
    }

    /// Starts what is due; returns when to come again, unless something happens before.
    pub(super) fn turn(&mut self) -> Duration {
        if is_standby() {
            return STANDBY_CHECK;
        }
        self.reap();
        let most = settings::queue_workers();
        if most == 0 {
            // Notes stay where they are until they are wanted, and whoever was served is served again then.
            let now = Instant::now();
            for Running { database, worker, .. } in self.running.drain(..) {
                worker.terminate();
                let known = Known { next_visit: now, failures: 0 };
                if let Some(database) = database {
                    self.databases.insert(database, known);
                }
            }
            return IDLE;
        }
        self.take_notes();
        let now = Instant::now();
        if self.next_list <= now {
            self.next_list = now + SLOW_CHECK;
            if self.list != Some(List::Visit) {
                self.list = Some(List::Check);
            }
        }
        let due: Vec<u32> =
            self.databases.iter().filter(|(_, known)| known.next_visit <= now).map(|(d, _)| *d).collect();
        for database in due {
            self.queue(database);
        }
        self.start(most, now);
        let waits = !self.waiting.is_empty();
        if waits != self.has_told_waiting {
            queue_notes::tell_waiting(waits);
            self.has_told_waiting = waits;
            if waits {
                // Those with nothing to do make room.
                self.running.iter().filter_map(|running| running.worker.pid()).for_each(wake::wake);
            }
        }
        let now = Instant::now();
        let starts = waits.then_some(self.next_start).filter(|time| *time > now);
        let visits = self.databases.iter().filter(|(database, _)| !self.is_under_way(**database));
        let next = visits.map(|(_, known)| known.next_visit).chain(starts).chain([self.next_list]).min();
        next.map_or(IDLE, |time| time.saturating_duration_since(now).max(Duration::from_millis(1)))
    }

    /// Ends all workers: the server is going down, or the supervisor is.
    pub(super) fn stop(&mut self) {
        self.running.drain(..).for_each(|running| running.worker.terminate());
    }

    /// Whether a database is served, or is about to be.
    fn is_under_way(&self, database: u32) -> bool {
        self.waiting.contains(&database) || self.serves(database)
    }

    fn serves(&self, database: u32) -> bool {
        self.running.iter().any(|running| running.database == Some(database))
    }

    fn queue(&mut self, database: u32) {
        if !self.is_under_way(database) {
            self.waiting.push_back(database);
        }
    }

    /// Notices workers that have ended.
    fn reap(&mut self) {
        let (ended, running) = self.running.drain(..).partition(|running| running.worker.has_ended());
        self.running = running;
        let ended: Vec<Running> = ended;
        for Running { database, asked_again, .. } in ended {
            match database {
                None => self.listed(),
                Some(database) => self.served(database, asked_again),
            }
        }
    }

    fn listed(&mut self) {
        let Some(databases) = queue_notes::take_databases() else {
            // It is tried again with the next database that cannot be served, or in a minute.
            self.next_start = Instant::now() + FIRST_DELAY;
            return;
        };
        self.databases.retain(|database, _| databases.contains(database));
        self.waiting.retain(|database| databases.contains(database));
        let list = self.list.take();
        for database in databases {
            let is_known = self.databases.contains_key(&database);
            if list == Some(List::Visit) || (list == Some(List::Check) && !is_known) {
                self.queue(database);
            }
        }
    }

    fn served(&mut self, database: u32, asked_again: bool) {
        let now = Instant::now();
        let Some(again) = queue_notes::take_served(database) else {
            // It could not connect, or was ended: perhaps the database is gone.
            let known = self.databases.entry(database).or_insert(Known { next_visit: now, failures: 0 });
            let delay = FIRST_DELAY * 2_u32.saturating_pow(known.failures).min(1000);
            known.next_visit = now + delay.min(LONGEST_DELAY);
            known.failures += 1;
            self.list.get_or_insert(List::Forget);
            return;
        };
        match again {
            Again::Never => drop(self.databases.remove(&database)),
            Again::Sometime | Again::At(_) => {
                let due = match again {
                    Again::At(time) => time.duration_since(SystemTime::now()).unwrap_or_default(),
                    _ => SLOW_CHECK,
                };
                let known = Known { next_visit: now + due.min(SLOW_CHECK), failures: 0 };
                self.databases.insert(database, known);
            }
        }
        if asked_again {
            self.queue(database);
        }
    }

    fn take_notes(&mut self) {
        for database in queue_notes::take_queued() {
            if let Some(running) = self.running.iter_mut().find(|running| running.database == Some(database))
            {
                running.asked_again = true;
                running.worker.pid().into_iter().for_each(wake::wake);
            } else if self.databases.get(&database).is_some_and(|known| known.failures > 0) {
                // Its turn will come: a database where workers fail is not asked for more of them.
            } else {
                self.queue(database);
            }
        }
    }

    fn start(&mut self, most: usize, now: Instant) {
        if now < self.next_start {
            return;
        }
        let is_listing = self.running.iter().any(|running| running.database.is_none());
        if self.list.is_some() && !is_listing && self.running.len() < most && !self.start_one(None, now) {
            return;
        }
        while self.running.len() < most {
            let Some(database) = self.waiting.pop_front() else { return };
            if !self.start_one(Some(database), now) {
                self.waiting.push_front(database);
                return;
            }
        }
    }

    fn start_one(&mut self, database: Option<u32>, now: Instant) -> bool {
        // What one of an earlier supervisor has left.
        match database {
            Some(database) => drop(queue_notes::take_served(database)),
            None => drop(queue_notes::take_databases()),
        }
        match QueueWorker::start(database) {
            Some(worker) => {
                self.has_told_of_slots = false;
                self.running.push(Running { database, worker, asked_again: false });
                true
            }
            None => {
                if !self.has_told_of_slots {
                    warning!(
                        "vector_embed: could not start a queue worker: no background worker slot is free"
                    );
                    self.has_told_of_slots = true;
                }
                self.next_start = now + SLOT_CHECK;
                false
            }
        }
    }
}
