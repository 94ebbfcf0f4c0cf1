//! What backends, queue workers and the supervisor tell each other of queues: small files in the runtime directory.
//!
//! All of it is made up for when it is lost. A note that cannot be written or read is as good as none.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::runtime_dir::{PATH, create_directory};

/// Rows were queued in the database of this number.
const QUEUED: &str = "queued.";
/// A worker has served the queues of a database, and tells when somebody should look again.
const SERVED: &str = "served.";
/// How many rows of each queue of a database were done lately.
const RATES: &str = "rates.";
/// The databases that can be connected to.
const DATABASES: &str = "databases";
/// Databases wait until a worker is free.
const WAITING: &str = "waiting";

/// How old rates may be: a worker that goes on writes them more often.
const LATELY: Duration = Duration::from_secs(60);

/// When the queues of a database are to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It has none.
    Never,
    /// When rows are queued, or by the slow check.
    Sometime,
    /// Because of what is due then.
    At(SystemTime),
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(PATH).join(name)
}

/// Writes a note that appears as a whole.
fn write(name: &str, text: &str) {
    // Each process has a name of its own for what is not yet whole. Nobody to tell if it fails: see above.
    let partial = path(&format!("{name}.{}", std::process::id()));
    let _ = fs::write(&partial, text).and_then(|()| fs::rename(&partial, path(name)));
}

/// Reads a note and removes it.
fn take(name: &str) -> Option<String> {
    let text = fs::read_to_string(path(name)).ok()?;
    fs::remove_file(path(name)).ok()?;
    Some(text)
}

/// Notes that rows were queued. Called when a transaction has been committed, so it raises nothing.
pub(crate) fn tell_queued(database: u32) {
    let name = path(&format!("{QUEUED}{database}"));
    let create = || File::options().create(true).append(true).open(&name);
    if create().is_err() {
        // The directory may not be there yet.
        let _ = create_directory().and_then(|()| create());
    }
}

/// The databases with such a note, which are removed before anybody looks at the queues.
pub(crate) fn take_queued() -> Vec<u32> {
    let Ok(entries) = fs::read_dir(PATH) else { return Vec::new() };
    let number = |name: &str| name.strip_prefix(QUEUED)?.parse().ok();
    let databases = entries.flatten().filter_map(|entry| number(entry.file_name().to_str()?));
    databases.inspect(|database| drop(fs::remove_file(path(&format!("{QUEUED}{database}"))))).collect()
}

/// A worker's last word on its database.
pub(crate) fn tell_served(database: u32, again: Again) {
    let text = match again {
        Again::Never => "never".to_owned(),
        Again::Sometime => "sometime".to_owned(),
        Again::At(time) => time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis()).to_string(),
    };
    write(&format!("{SERVED}{database}"), &text);
}

/// The same; `None` if the worker has failed.
pub(crate) fn take_served(database: u32) -> Option<Again> {
    let text = take(&format!("{SERVED}{database}"))?;
    match text.as_str() {
        "never" => Some(Again::Never),
        "sometime" => Some(Again::Sometime),
        millis => Some(Again::At(UNIX_EPOCH + Duration::from_millis(millis.parse().ok()?))),
    }
}

/// The databases that can be connected to.
pub(crate) fn tell_databases(databases: &[u32]) {
    let lines: Vec<String> = databases.iter().map(u32::to_string).collect();
    write(DATABASES, &lines.join("\n"));
}

pub(crate) fn take_databases() -> Option<Vec<u32>> {
    take(DATABASES)?.lines().map(|line| line.parse().ok()).collect()
}

/// Tells workers whether they should make room.
pub(crate) fn tell_waiting(waiting: bool) {
    // The supervisor alone writes it; one that is not there is the same as one that was removed.
    let _ = if waiting { fs::write(path(WAITING), "") } else { fs::remove_file(path(WAITING)) };
}

pub(crate) fn is_waiting() -> bool {
    path(WAITING).exists()
}

/// Rows that a worker has done for a queue, a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    /// The queue's table.
    pub(crate) queue: u32,
    pub(crate) rows_per_second: f64,
}

pub(crate) fn tell_rates(database: u32, rates: &[Rate]) {
    let lines: Vec<String> =
        rates.iter().map(|rate| format!("{} {}", rate.queue, rate.rows_per_second)).collect();
    write(&format!("{RATES}{database}"), &lines.join("\n"));
}

/// What the database's worker has told last, unless that is long ago.
pub(crate) fn rates(database: u32) -> Vec<Rate> {
    let name = path(&format!("{RATES}{database}"));
    let is_recent = fs::metadata(&name)
        .and_then(|meta| meta.modified())
        .is_ok_and(|time| time.elapsed().is_ok_and(|age| age < LATELY));
    let text = if is_recent { fs::read_to_string(&name).unwrap_or_default() } else { String::new() };
    let rate = |line: &str| {
        let (queue, rate) = line.split_once(' ')?;
        Some(Rate { queue: queue.parse().ok()?, rows_per_second: rate.parse().ok()? })
    };
    text.lines().filter_map(rate).collect()
}
