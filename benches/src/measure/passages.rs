//! Long texts embedded by UPDATE against the best loop over ONNX Runtime.

use super::contest::Contest;
use super::{Bench, Measurement, table};
use crate::error::Result;
use crate::report::{Bar, Row};
use crate::texts;

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "passages", what: "long real texts by UPDATE", run };

/// All of them on each side in turn would take minutes, in which a machine changes.
const ROUNDS: usize = 8;
/// Texts of a round.
const BLOCK: usize = 250;
/// Texts with which the reference finds its batches.
const SAMPLE: usize = 50;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut passages = texts::read_lines(&bench.arguments.optional("passages")?)?;
    let block = bench.count(BLOCK);
    passages.truncate(bench.rounds(ROUNDS) * block);
    let mut client = bench.server.connect()?;
    // From all over the manual.
    let sample: Vec<String> =
        passages.iter().step_by(passages.len().div_ceil(bench.count(SAMPLE))).cloned().collect();
    let mut contest = Contest::new(bench, &sample)?;
    for block in passages.chunks(block) {
        table::fill(&mut client, "passages", block)?;
        contest.round(block, || table::update(&mut client, "passages"))?;
        table::require_true(bench, &mut client, "passages", &block[..1])?;
    }
    client.batch_execute("DROP TABLE passages")?;
    let what = format!("{} long real texts by UPDATE", passages.len());
    let how = format!(
        "`UPDATE … SET embedding = embed(body)` of passages of PostgreSQL's manual, in tables of {block}"
    );
    Ok(vec![contest.against_loop(&what, &how, Bar::None), contest.against_limit(&what, Bar::AtLeast(0.6))])
}
