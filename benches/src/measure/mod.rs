//! The measurements.

mod array;
mod bare;
mod busy;
mod callers;
mod cancel;
mod chroma;
mod clients;
mod cold;
mod contest;
mod first_call;
mod growth;
mod later;
mod layout;
mod memory;
mod operators;
mod passages;
mod planning;
mod precisions;
mod query;
mod scripts;
mod search;
mod table;
mod triggers;
mod update;
mod vectors;

use std::thread;
use std::time::Duration;

use crate::arguments::Arguments;
use crate::bare::Bare;
use crate::error::{Result, explain};
use crate::report::Row;
use crate::server::Server;
use crate::texts::Queries;

/// All of them, in the order of the report.
pub(crate) const MEASUREMENTS: &[Measurement] = &[
    bare::MEASUREMENT,
    update::MEASUREMENT,
    passages::MEASUREMENT,
    array::MEASUREMENT,
    triggers::MEASUREMENT,
    later::MEASUREMENT,
    growth::MEASUREMENT,
    scripts::MEASUREMENT,
    chroma::MEASUREMENT,
    query::MEASUREMENT,
    search::MEASUREMENT,
    clients::MEASUREMENT,
    busy::MEASUREMENT,
    cancel::MEASUREMENT,
    vectors::MEASUREMENT,
    precisions::MEASUREMENT,
    first_call::MEASUREMENT,
    cold::MEASUREMENT,
    memory::MEASUREMENT,
    planning::MEASUREMENT,
    layout::MEASUREMENT,
    operators::MEASUREMENT,
];

/// Something that is measured.
pub(crate) struct Measurement {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it is, for the report of one that failed.
    pub(crate) what: &'static str,
    /// Measures it; an error says why it could not be measured.
    pub(crate) run: fn(&Bench) -> Result<Vec<Row>>,
}

/// What the measurements share.
pub(crate) struct Bench {
    /// What the command line says.
    pub(crate) arguments: Arguments,
    /// The server with the extension.
    pub(crate) server: Server,
    /// The model in this process.
    pub(crate) bare: Bare,
    /// Short questions, no two alike.
    pub(crate) queries: Queries,
    /// Short real texts.
    pub(crate) synopses: Vec<String>,
}

impl Bench {
    /// How often something is repeated: once where it is only to be seen that it runs.
    fn rounds(&self, usual: usize) -> usize {
        if self.arguments.quick { 1 } else { usual }
    }

    /// How much of something is taken.
    fn count(&self, usual: usize) -> usize {
        if self.arguments.quick { usual.div_ceil(100) } else { usual }
    }

    /// How long something is watched.
    fn duration(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(if self.arguments.quick { seconds / 4.0 } else { seconds })
    }

    /// That many short real texts, the same each time.
    fn short_texts(&self, usual: usize) -> &[String] {
        &self.synopses[..self.count(usual).min(self.synopses.len())]
    }
}

/// These rows, or one that says why they could not be had.
fn rows_or_reason(what: &str, rows: Result<Vec<Row>>) -> Vec<Row> {
    rows.unwrap_or_else(|error| vec![Row::not_measured(what, explain(&*error))])
}

/// Between the sides of a comparison. By default the threads of ONNX Runtime spin for about 50 ms after a batch
/// in case another comes, here as in the engine, and must not take a processor from the other side.
const PAUSE: Duration = Duration::from_millis(150);

/// Lets the threads of the side that was just measured fall asleep.
fn pause() {
    thread::sleep(PAUSE);
}

/// Cosine of two vectors; 0 where they are not of one length.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
    if a.is_empty() || a.len() != b.len() {
        return 0.0;
    }
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Fails unless both sides computed the same vector: what is compared must be the same work.
fn require_equal(ours: &[f32], reference: &[f32]) -> Result<()> {
    let cosine = cosine(ours, reference);
    if cosine < 0.999_999 {
        return Err(format!("the two sides compute different vectors, cosine {cosine}").into());
    }
    Ok(())
}
