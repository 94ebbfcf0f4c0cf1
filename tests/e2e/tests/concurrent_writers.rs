//! Many writers at once, and an engine that dies all the time: what is stored is true.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Error};
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::notes::{self, TIMINGS, assert_fresh, copy};
use vector_embed_e2e::process::{self, Signal};
use vector_embed_e2e::sql::{backend, execute};
use vector_embed_e2e::stopper::Stopper;

const WRITERS: u64 = 16;
const TIME: Duration = Duration::from_secs(60);
/// What the slowest machine may need.
const LONGEST: Duration = Duration::from_secs(600);
/// Tables for each timing.
const TABLES: u64 = 2;
/// Rows that all writers share, so that they get into each other's way.
const SHARED_ROWS: u64 = 400;

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Ways to write. Each `{text}` becomes another text that nothing has seen before, `{id}` a row that all share,
/// `{own}` the first of five rows that are the writer's own.
const WRITES: [(&str, &str); 12] = [
    ("insert", "INSERT INTO {table} (id, body) VALUES ({id}, '{text}') ON CONFLICT DO NOTHING"),
    (
        "insert many",
        "INSERT INTO {table} (id, body) SELECT i, '{text} ' || i FROM generate_series({id}, {id} + 20) AS i
             ON CONFLICT DO NOTHING",
    ),
    ("update", "UPDATE {table} SET body = '{text}' WHERE id = {id}"),
    ("update many", "UPDATE {table} SET body = '{text} ' || id WHERE id BETWEEN {id} AND {id} + 10"),
    ("write all columns back", "UPDATE {table} SET body = '{text}', seen = seen, embedding = embedding WHERE id = {id}"),
    ("take the vector away", "UPDATE {table} SET embedding = NULL WHERE id = {id}"),
    ("take the text away", "UPDATE {table} SET body = NULL WHERE id = {id}"),
    ("update beside the text", "UPDATE {table} SET seen = coalesce(seen, 0) + 1 WHERE id BETWEEN {id} AND {id} + 40"),
    (
        "upsert",
        "INSERT INTO {table} (id, body) VALUES ({id}, '{text}'), ({id} + 1, '{text}'), ({id} + 2, NULL)
             ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    ),
    ("delete", "DELETE FROM {table} WHERE id BETWEEN {id} AND {id} + 3"),
    (
        "transaction",
        "BEGIN;
         UPDATE {table} SET body = '{text}' WHERE id = {id};
         SAVEPOINT here;
         UPDATE {table} SET body = '{text}' WHERE id BETWEEN {id} AND {id} + 5;
         DELETE FROM {table} WHERE id = {id};
         ROLLBACK TO here;
         INSERT INTO {table} (id, body) VALUES ({id} + 1, '{text}') ON CONFLICT (id) DO UPDATE SET body = '{text}';
         COMMIT",
    ),
    ("copy", "BEGIN; DELETE FROM {table} WHERE id BETWEEN {own} AND {own} + 4"),
];

/// How often each way has succeeded, for each timing.
#[derive(Debug)]
struct Tally(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Tally {
    fn new() -> Self {
        let ways = WRITES.iter().flat_map(|(way, _)| TIMINGS.map(|timing| ((*way, timing), 0)));
        Self(Mutex::new(ways.collect()))
    }

    fn count(&self, way: &'static str, timing: &'static str) {
        *self.0.lock().expect("nobody panics with the lock").entry((way, timing)).or_default() += 1;
    }

    fn sum(&self) -> u64 {
        self.0.lock().expect("nobody panics with the lock").values().sum()
    }

    fn least(&self) -> u64 {
        *self.0.lock().expect("nobody panics with the lock").values().min().expect("there are ways")
    }
}

/// A session that writes.
struct Writer<'a> {
    client: Client,
    number: u64,
    dice: Dice,
    texts: u64,
    tally: &'a Tally,
}

impl Writer<'_> {
    fn text(&mut self) -> String {
        const WORDS: [&str; 8] =
            ["harbour", "ledger", "orchard", "copper", "river", "storm", "archive", "window"];
        self.texts += 1;
        let words: Vec<&str> =
            (0..3 + self.dice.below(12)).map(|_| WORDS[self.dice.below(8) as usize]).collect();
        format!("{} of {}: {}", self.texts, self.number, words.join(" "))
    }

    /// Writes once, in some way.
    fn write(&mut self) -> Result<(), Error> {
        let (way, statement) = WRITES[self.dice.below(WRITES.len() as u64) as usize];
        let timing = TIMINGS[self.dice.below(2) as usize];
        let table = table(timing, self.dice.below(TABLES));
        let id = self.dice.below(SHARED_ROWS);
        let own = 1000 + 5 * self.number;
        let mut statement = statement
            .replace("{table}", &table)
            .replace("{id}", &id.to_string())
            .replace("{own}", &own.to_string());
        while statement.contains("{text}") {
            statement = statement.replacen("{text}", &self.text(), 1);
        }
        self.client.batch_execute(&statement)?;
        if way == "copy" {
            let rows: Vec<(i32, String)> = (own as i32..).take(5).map(|id| (id, self.text())).collect();
            let rows: Vec<(i32, &str)> = rows.iter().map(|(id, text)| (*id, text.as_str())).collect();
            copy(&mut self.client, &table, &rows)?;
            self.client.batch_execute("COMMIT")?;
        }
        self.tally.count(way, timing);
        Ok(())
    }

    /// Writes until told to stop. What fails must have failed for the engine, or for another writer.
    fn run(mut self, done: &AtomicBool) {
        let session = backend(&mut self.client);
        while !done.load(Ordering::Relaxed) {
            if let Err(error) = self.write() {
                let state = error.code().unwrap_or_else(|| panic!("the session ended: {error:?}")).code();
                assert!(state.starts_with("58") || state.starts_with("40"), "{error:?}");
                execute(&mut self.client, "ROLLBACK");
            }
        }
        assert_eq!(backend(&mut self.client), session);
    }
}

fn table(timing: &str, number: u64) -> String {
    format!("notes_by_{timing}_{number}")
}

fn tables() -> impl Iterator<Item = String> {
    TIMINGS.iter().flat_map(|timing| (0..TABLES).map(|number| table(timing, number)))
}

#[test]
fn sixteen_writers_and_an_engine_that_is_killed_all_the_time_leave_no_row_with_another_vector_than_its_text_s()
 {
    // Writers that wait for each other are to find out soon.
    let cluster = Cluster::with().setting("deadlock_timeout", "100ms").start();
    let mut observer = cluster.connect();
    for timing in TIMINGS {
        for number in 0..TABLES {
            notes::create(&mut observer, &table(timing, number), timing);
        }
    }
    let (done, tally) = (AtomicBool::new(false), Tally::new());
    thread::scope(|scope| {
        let stopper = Stopper::of(&done);
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let client = cluster.connect();
                let writer = Writer { client, number, dice: Dice(number), texts: 0, tally: &tally };
                scope.spawn(|| writer.run(&done))
            })
            .collect();
        let (begin, mut dice, mut kills) = (Instant::now(), Dice(99), 0);
        // A slow machine takes longer to do enough.
        while begin.elapsed() < TIME || kills < 10 || tally.least() < 3 {
            assert!(begin.elapsed() < LONGEST, "some ways never succeed: {tally:?}, {kills} kills");
            if writers.iter().any(|writer| writer.is_finished()) {
                break;
            }
            // Most engines serve some writes, others die while they start or compute what was under way before.
            let (life, end) = (Instant::now(), tally.sum() + dice.below(120));
            let is_short = dice.below(4) == 0;
            while !is_short && tally.sum() < end && life.elapsed() < Duration::from_secs(5) {
                thread::sleep(Duration::from_millis(5));
            }
            thread::sleep(Duration::from_millis(dice.below(100)));
            for engine in cluster.engines() {
                process::send(engine, Signal::KILL);
                kills += 1;
            }
            for table in tables() {
                // Others see a row with its vector or not at all.
                let bare = format!("SELECT FROM {table} WHERE body IS NOT NULL AND embedding IS NULL");
                assert!(
                    observer.query(&bare, &[]).expect("rows").is_empty(),
                    "a row of {table} without a vector"
                );
            }
        }
        drop(stopper);
        for writer in writers {
            writer.join().expect("no writer saw another error");
        }
    });
    // No vector that was computed before takes part in the check.
    cluster.engines().into_iter().for_each(|engine| process::send(engine, Signal::KILL));
    for table in tables() {
        let rows: i64 =
            observer.query_one(&format!("SELECT count(*) FROM {table}"), &[]).expect("a row").get(0);
        assert!(rows >= 50, "{table} has {rows} rows only");
        assert_fresh(&mut observer, &table, rows);
    }
}
