//! A search by a text against the same search by a vector that is there already.

use postgres::{Client, Statement};

use super::{Bench, Measurement, pause, table};
use crate::error::Result;
use crate::report::{Bar, Figures, Row};
use crate::stats::{median, quantile, timed};

pub(super) const MEASUREMENT: Measurement = Measurement { name: "search", what: WHAT, run };

const WHAT: &str = "search by a text";
const ROUNDS: usize = 20;
const SEARCHES: usize = 10;
const SEARCH: &str = "SELECT id FROM corpus ORDER BY embedding <=> embed_query($1) LIMIT 10";
/// How it is told.
pub(super) const TOLD: &str = "`SELECT … ORDER BY embedding <=> embed_query($1) LIMIT 10`";

/// The search by a text, once it is clear that it uses the index.
pub(super) fn prepare(client: &mut Client) -> Result<Statement> {
    // Of few rows, as in a quick run, the planner reads all.
    client.batch_execute("SET enable_seqscan = off")?;
    let plan = client.simple_query(&format!("EXPLAIN {}", SEARCH.replace("$1", "'a text'")))?;
    if !format!("{plan:?}").contains("Index Scan using") {
        return Err("the search does not use the index".into());
    }
    Ok(client.prepare(SEARCH)?)
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut client = bench.server.connect()?;
    let texts = table::corpus(bench, &mut client)?;
    let questions: Vec<String> = (0..bench.rounds(ROUNDS) * SEARCHES).map(|_| bench.queries.next()).collect();
    client.batch_execute("CREATE TEMPORARY TABLE ready (question text PRIMARY KEY, embedding vector)")?;
    client
        .execute("INSERT INTO ready SELECT q, embed_query(q) FROM unnest($1::text[]) AS q", &[&questions])?;
    client.batch_execute("ANALYZE ready")?;
    let sides = [
        prepare(&mut client)?,
        client.prepare(
            "SELECT id FROM corpus ORDER BY embedding <=> (SELECT embedding FROM ready WHERE question = $1) LIMIT 10",
        )?,
        client.prepare("SELECT embed_query($1)")?,
    ];
    let mut times = sides.each_ref().map(|_| Vec::new());
    for questions in questions.chunks(SEARCHES) {
        for (side, times) in sides.iter().zip(&mut times) {
            pause();
            // What wakes it up is not counted.
            client.query(side, &[&questions[0]])?;
            for question in questions {
                let (time, rows) = timed(|| client.query(side, &[question]));
                rows?;
                times.push(time);
            }
        }
    }
    let [ours, ready, alone] = times;
    let notes = format!(
        "{TOLD} with an HNSW index on {} texts against the same with a vector that is read from a table; {} searches each \
         in alternating blocks of {SEARCHES}; nine of ten within {:.2} and {:.2} ms; `SELECT embed_query($1)` alone takes \
         {:.2} ms",
        texts.len(),
        ours.len(),
        quantile(&ours, 0.9),
        quantile(&ready, 0.9),
        median(&alone)
    );
    Ok(vec![Row::new(
        "search by a text, against a ready vector",
        Figures::times(median(&ours), median(&ready), Bar::None),
        notes,
    )])
}
