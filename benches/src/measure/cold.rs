//! What comes once: the extension in a database, the engine after a server's start, the library in a connection.

use super::{Bench, Measurement, pause};
use crate::cluster::Cluster;
use crate::error::Result;
use crate::report::{Bar, Figures, Row};
use crate::server::Server;
use crate::stats::{median, quantile, timed};

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "cold", what: "what comes once in a database, a server or a connection", run };

const DATABASES: usize = 8;
const STARTS: usize = 5;
const CONNECTIONS: usize = 100;
const PRELOAD: [&str; 1] = ["shared_preload_libraries=vector_embed"];

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let plain = Cluster::new(&bench.arguments, "plain", &[]);
    let preloaded = Cluster::new(&bench.arguments, "preloaded", &PRELOAD);
    let mut rows = vec![create_extension(bench, &plain.start(&bench.server)?)?];
    rows.extend(first_embed(bench, &plain, "started by it")?);
    let server = preloaded.start(&bench.server)?;
    server.connect()?.batch_execute("CREATE EXTENSION vector_embed CASCADE")?;
    rows.extend(first_embed(bench, &preloaded, "preloaded")?);
    rows.push(connections(bench, &plain.start(&bench.server)?, &preloaded.start(&bench.server)?)?);
    Ok(rows)
}

/// CREATE EXTENSION in new databases, beside that of pgvector. The last is made in the one that others use.
fn create_extension(bench: &Bench, server: &Server) -> Result<Row> {
    let mut owner = server.connect()?;
    let (mut ours, mut theirs) = (vec![], vec![]);
    for number in 0..bench.rounds(DATABASES) {
        owner.batch_execute(&format!("CREATE DATABASE new_{number}"))?;
        let mut client = server.connect_to(&format!("new_{number}"))?;
        for (name, times) in [("vector", &mut theirs), ("vector_embed", &mut ours)] {
            let (time, created) = timed(|| client.batch_execute(&format!("CREATE EXTENSION {name}")));
            created?;
            times.push(time);
        }
    }
    owner.batch_execute("CREATE EXTENSION vector_embed CASCADE")?;
    let notes = format!(
        "in {} new databases that have pgvector, against that of pgvector; nine of ten within {:.1} ms",
        ours.len(),
        quantile(&ours, 0.9)
    );
    Ok(Row::new("CREATE EXTENSION", Figures::times(median(&ours), median(&theirs), Bar::None), notes))
}

/// The first `embed()` after starts of a server.
fn first_embed(bench: &Bench, cluster: &Cluster, how: &str) -> Result<Vec<Row>> {
    let (mut first, mut second) = (vec![], vec![]);
    for _ in 0..bench.rounds(STARTS) {
        cluster.stop()?;
        let mut client = cluster.start(&bench.server)?.connect()?;
        for times in [&mut first, &mut second] {
            let (time, row) =
                timed(|| client.simple_query(&format!("SELECT embed('{}')", bench.queries.next())));
            row?;
            times.push(time);
            pause();
        }
    }
    let (time, later) = (median(&first), median(&second));
    let figures = Figures { result: time, ..Figures::times(time, later, Bar::AtMost(1000.0)) };
    let notes = format!(
        "the first statement after {} starts of a server, from which the engine and its model are loaded, against the \
         second; from {:.0} to {:.0} ms; files are in the system's cache",
        first.len(),
        quantile(&first, 0.0),
        quantile(&first, 1.0)
    );
    Ok(vec![Row::new(format!("first embed() after a server's start, engine {how}"), figures, notes)])
}

/// Connections to a server that preloads the library, and to one that does not.
fn connections(bench: &Bench, plain: &Server, preloaded: &Server) -> Result<Row> {
    let mut times = [vec![], vec![]];
    for _ in 0..bench.rounds(CONNECTIONS) {
        for (server, times) in [preloaded, plain].into_iter().zip(&mut times) {
            let (time, answer) = timed(|| server.connect()?.simple_query("SELECT 1").map_err(Into::into));
            let answer: Result<_> = answer;
            answer?;
            times.push(time);
        }
    }
    let [ours, reference] = times;
    let notes = format!(
        "connecting and `SELECT 1`, without any use of the extension, {} times each in turns; nine of ten within {:.2} and \
         {:.2} ms",
        ours.len(),
        quantile(&ours, 0.9),
        quantile(&reference, 0.9)
    );
    let figures = Figures::times(median(&ours), median(&reference), Bar::None);
    Ok(Row::new("a new connection, library preloaded", figures, notes))
}
