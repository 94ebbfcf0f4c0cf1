//! What the references reach: ONNX Runtime with one text at a time, with batches, and its matrix products alone.

use super::contest::Contest;
use super::{Bench, Measurement, pause};
use crate::error::Result;
use crate::report::{Bar, Row};
use crate::stats::timed;

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "bare", what: "ONNX Runtime without a server", run };

const ROUNDS: usize = 5;
const TEXTS: usize = 1000;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let texts = bench.short_texts(TEXTS);
    let mut contest = Contest::new(bench, texts)?;
    for _ in 0..bench.rounds(ROUNDS) {
        contest.round(texts, || {
            pause();
            let (time, vectors) =
                timed(|| texts.iter().try_for_each(|text| bench.bare.embed(text).map(drop)));
            vectors.map(|()| time)
        })?;
    }
    let what = "ONNX Runtime, one short text at a time";
    let how = format!("no side is ours: {} Debian package synopses, one after the other", texts.len());
    Ok(vec![contest.against_loop(what, &how, Bar::None), contest.against_limit(what, Bar::None)])
}
