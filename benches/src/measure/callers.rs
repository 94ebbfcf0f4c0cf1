//! Several clients that each embed one short text after the other.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Statement};

use super::Bench;
use crate::error::Result;
use crate::server::{Raw, Server};
use crate::stats::milliseconds;
use crate::texts::Queries;

/// Milliseconds of all calls of `count` clients that ended within `duration`. An error of one client is one of all.
pub(super) fn call(bench: &Bench, count: usize, duration: Duration) -> Result<Vec<f64>> {
    let ready = Barrier::new(count);
    let (server, queries) = (&bench.server, &bench.queries);
    let calls = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..count).map(|_| scope.spawn(|| client(server, queries, &ready, duration))).collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Err("a client panicked".into())))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(calls.concat())
}

fn client(server: &Server, queries: &Queries, ready: &Barrier, duration: Duration) -> Result<Vec<f64>> {
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
        if start.elapsed() > duration {
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
