//! Rows embedded by one UPDATE against the best loop over ONNX Runtime.

use super::contest::Contest;
use super::{Bench, Measurement, table};
use crate::error::Result;
use crate::report::{Bar, Row};

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "update", what: "short real texts by one UPDATE", run };

const ROUNDS: usize = 3;
const TEXTS: usize = 10_000;
/// Texts with which the reference finds its batches.
const SAMPLE: usize = 1000;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let texts = bench.short_texts(TEXTS);
    let mut client = bench.server.connect()?;
    let mut contest = Contest::new(bench, bench.short_texts(SAMPLE))?;
    for _ in 0..bench.rounds(ROUNDS) {
        table::fill(&mut client, "updated", texts)?;
        contest.round(texts, || table::update(&mut client, "updated"))?;
    }
    table::require_true(bench, &mut client, "updated", texts)?;
    client.batch_execute("DROP TABLE updated")?;
    let what = format!("{} short real texts by one UPDATE", texts.len());
    let how =
        "`UPDATE … SET embedding = embed(body)` of Debian package synopses in one statement, written to disk";
    Ok(vec![
        contest.against_loop(&what, how, Bar::AtLeast(0.9)),
        contest.against_limit(&what, Bar::AtLeast(0.75)),
    ])
}
