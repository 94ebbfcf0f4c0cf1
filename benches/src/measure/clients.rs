//! Many clients that each ask for one short text at a time.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Statement};

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
    let mut observer = bench.server.connect()?;
    let mut sides = CLIENTS.map(|_| Side::default());
    for _ in 0..ROUNDS {
        for (count, side) in CLIENTS.into_iter().zip(&mut sides) {
            pause();
            let before = computed(&mut observer)?;
            let times = round(bench, count)?;
            let after = computed(&mut observer)?;
            side.speeds.push(times.len() as f64 / ROUND.as_secs_f64());
            side.together.push((after.0 - before.0) / (after.1 - before.1));
            side.waits.extend(times);
        }
    }
    let one = median(&sides[0].speeds);
    let rows = CLIENTS.into_iter().zip(&sides).skip(1).map(|(count, side)| {
        let speed = median(&side.speeds);
        let figures = Figures {
            ours: format!("{speed:.0}/s"),
            reference: format!("{one:.0}/s"),
            result: speed / one,
            unit: Unit::Times,
            bar: if count == 32 { Bar::AtLeast(1.5) } else { Bar::None },
        };
        let notes = format!(
            "throughput of prepared `SELECT embed($1)` against one client's; {ROUNDS} alternating rounds of {} s, no \
             errors; a call takes {:.1} ms, nine of ten below {:.1} ms; {:.1} texts share a batch",
            ROUND.as_secs(),
            median(&side.waits),
            quantile(&side.waits, 0.9),
            median(&side.together),
        );
        Row::new(format!("{count} clients of single short texts"), figures, notes)
    });
    Ok(rows.collect())
}

/// What a number of clients achieved.
#[derive(Default)]
struct Side {
    /// Calls a second, in each round.
    speeds: Vec<f64>,
    /// Texts in a batch, on average in each round.
    together: Vec<f64>,
    /// Milliseconds of each call.
    waits: Vec<f64>,
}

/// Texts and batches that the engine has computed so far.
fn computed(client: &mut Client) -> Result<(f64, f64)> {
    let sql = "SELECT texts::float8, batches::float8 FROM vector_embed.stat_engine";
    let row = client.query_one(sql, &[])?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Times of all calls of `count` clients in one round. An error of one client fails the round.
fn round(bench: &Bench, count: usize) -> Result<Vec<f64>> {
    let ready = Barrier::new(count);
    let (server, queries) = (&bench.server, &bench.queries);
    let calls = thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(|| client(server, queries, &ready))).collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Err("a client panicked".into())))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(calls.concat())
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
fn open(server: &Server, queries: &Queries) -> Result<(Client, Statement)> {
    let mut client = server.connect()?;
    let embed = client.prepare("SELECT embed($1)")?;
    client.query_one(&embed, &[&queries.next()])?;
    Ok((client, embed))
}
