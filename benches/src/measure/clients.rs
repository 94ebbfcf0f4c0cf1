//! Many clients that each ask for one short text at a time.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::{Bench, Measurement, pause};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::server::{Raw, Server};
use crate::stats::{median, milliseconds, quantile};
use crate::texts::Queries;

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "clients", what: "many clients of single short texts", run };

const CLIENTS: [usize; 3] = [1, 8, 32];
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut speeds = CLIENTS.map(|_| Vec::new());
    let mut waits = CLIENTS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (place, count) in CLIENTS.into_iter().enumerate() {
            pause();
            let (speed, times) = round(bench, count)?;
            speeds[place].push(speed);
            waits[place].extend(times);
        }
    }
    let one = median(&speeds[0]);
    let rows = CLIENTS.into_iter().zip(speeds.iter().zip(&waits)).skip(1);
    let rows = rows.map(|(count, (speeds, waits))| {
        let figures = Figures {
            ours: format!("{:.0}/s", median(speeds)),
            reference: format!("{one:.0}/s"),
            result: median(speeds) / one,
            unit: Unit::Times,
            bar: if count == 32 { Bar::AtLeast(1.5) } else { Bar::None },
        };
        let notes = format!(
            "throughput of prepared `SELECT embed($1)` against one client's; {ROUNDS} alternating rounds of {} s, no \
             errors; a call takes {:.1} ms, nine of ten below {:.1} ms",
            ROUND.as_secs(),
            median(waits),
            quantile(waits, 0.9),
        );
        Row::new(format!("{count} clients of single short texts"), figures, notes)
    });
    Ok(rows.collect())
}

/// Calls a second of `count` clients together, and how long each call took. An error of one fails the round.
fn round(bench: &Bench, count: usize) -> Result<(f64, Vec<f64>)> {
    let ready = Barrier::new(count);
    let (server, queries) = (&bench.server, &bench.queries);
    let calls = thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(|| client(server, queries, &ready))).collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Err("a client panicked".into())))
            .collect::<Result<Vec<_>>>()
    })?;
    let times = calls.concat();
    Ok((times.len() as f64 / ROUND.as_secs_f64(), times))
}

/// Times of one client's calls that ended within the round.
fn client(server: &Server, queries: &Queries, ready: &Barrier) -> Result<Vec<f64>> {
    let opened = open(server, queries);
    // Also where there is no connection: the others wait for this client.
    ready.wait();
    let (mut client, embed) = opened?;
    let start = Instant::now();
    let mut times = Vec::new();
    loop {
        let call = Instant::now();
        let row = client.query_one(&embed, &[&queries.next()])?;
        row.try_get::<_, Raw>(0)?;
        if start.elapsed() > ROUND {
            return Ok(times);
        }
        times.push(milliseconds(call.elapsed()));
    }
}

/// A connection that has embedded before.
fn open(server: &Server, queries: &Queries) -> Result<(postgres::Client, postgres::Statement)> {
    let mut client = server.connect()?;
    let embed = client.prepare("SELECT embed($1)")?;
    client.query_one(&embed, &[&queries.next()])?;
    Ok((client, embed))
}
