//! What a connection that embeds costs in memory beyond one that uses pgvector.
//!
//! Private pages are counted: they are what one more connection adds. Resident memory would count the server's
//! shared memory and the code of libraries once for each of them, and proportional shares would depend on how
//! many others there are. All connections are open at once, or else the only one that has loaded the library
//! would be charged for its code.

use std::fs;

use postgres::Client;

use super::{Bench, Measurement, pause};
use crate::error::Result;
use crate::report::{Bar, Figures, Row};
use crate::server::ENGINE;
use crate::stats::{median, quantile};

pub(super) const MEASUREMENT: Measurement = Measurement { name: "memory", what: WHAT, run };

const WHAT: &str = "memory of a connection that embeds";
const CONNECTIONS: usize = 100;
/// Calls of an embedding connection that is measured once more, to see whether it grows.
const MANY_CALLS: usize = 200;
/// Texts of one large call.
const MANY: usize = 2000;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut observer = bench.server.connect()?;
    let engine = observer.query_one(&format!("SELECT pid FROM {ENGINE}"), &[])?.try_get(0)?;
    let mut plain = Vec::new();
    let mut embedding = Vec::new();
    let mut first = Vec::new();
    let stored = "array_fill(0.5, ARRAY[384])::vector";
    for _ in 0..bench.count(CONNECTIONS) {
        plain.push(connection(bench, &format!("SELECT {stored} <-> {stored}"))?);
        let text = bench.queries.next();
        embedding.push(connection(bench, &format!("SELECT embed('{text}') <-> {stored}"))?);
        if first.is_empty() {
            first = vec![private_bytes(engine)?, private_bytes(embedding[0].1)?, private_bytes(plain[0].1)?];
        }
    }
    pause();
    let plain_bytes = all_private_bytes(&plain)?;
    let embedding_bytes = all_private_bytes(&embedding)?;
    let engine_bytes = private_bytes(engine)?;

    let grown = &mut embedding[0];
    let before = private_bytes(grown.1)?;
    for _ in 0..MANY_CALLS {
        grown.0.simple_query(&format!("SELECT embed('{}')", bench.queries.next()))?;
    }
    let after_many = private_bytes(grown.1)?;
    grown.0.query("SELECT cardinality(embed($1::text[]))", &[&bench.short_texts(MANY)])?;
    let after_array = private_bytes(grown.1)?;
    let engine_after_array = private_bytes(engine)?;

    let bar = Bar::AtMost(2.0);
    let notes = format!(
        "private pages (`Private_Clean` and `Private_Dirty` of `/proc/PID/smaps_rollup`) of {} backends that \
         called embed() once against as many that compared two constant vectors, all open at once; from \
         {:.2} to {:.2} and from {:.2} to {:.2} MB; {MANY_CALLS} more calls add {:.2} MB, and one of {} texts \
         leaves {:.2} MB more",
        embedding.len(),
        quantile(&embedding_bytes, 0.0),
        quantile(&embedding_bytes, 1.0),
        quantile(&plain_bytes, 0.0),
        quantile(&plain_bytes, 1.0),
        after_many - before,
        bench.count(MANY),
        after_array - after_many,
    );
    let engine_notes = format!(
        "private pages of the engine's process with {} connections that called embed() once against one; a call of {} texts \
         leaves it with {engine_after_array:.1} MB",
        embedding.len(),
        bench.count(MANY)
    );
    let alone_notes = "the same of the first of them, before there were others: the library's pages are its own until a \
                       second connection shares them";
    Ok(vec![
        Row::new(WHAT, Figures::sizes(median(&embedding_bytes), median(&plain_bytes), bar), notes),
        Row::new(
            "memory of the first connection that embeds",
            Figures::sizes(first[1], first[2], Bar::None),
            alone_notes,
        ),
        Row::new(
            format!("memory of the engine, {} connections", embedding.len()),
            Figures::sizes(engine_bytes, first[0], Bar::None),
            engine_notes,
        ),
    ])
}

/// A connection that has run `sql`, and its backend's process.
fn connection(bench: &Bench, sql: &str) -> Result<(Client, i32)> {
    let mut client = bench.server.connect()?;
    let pid = client.query_one("SELECT pg_backend_pid()", &[])?.try_get(0)?;
    client.simple_query(sql)?;
    Ok((client, pid))
}

fn all_private_bytes(connections: &[(Client, i32)]) -> Result<Vec<f64>> {
    connections.iter().map(|(_, pid)| private_bytes(*pid)).collect()
}

/// Private memory of a process in megabytes.
fn private_bytes(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let kibibytes = text
        .lines()
        .filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Ok(kibibytes.sum::<f64>() * 1024.0 / 1e6)
}
