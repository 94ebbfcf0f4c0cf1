//! The measurements.

mod array;
mod clients;
mod first_call;
mod layout;
mod memory;
mod planning;
mod query;
mod triggers;
mod update;

use std::thread;
use std::time::Duration;

use crate::bare::Bare;
use crate::error::Result;
use crate::report::Row;
use crate::server::Server;
use crate::texts::Queries;

/// All of them, in the order of the report.
pub(crate) const MEASUREMENTS: &[Measurement] = &[
    query::MEASUREMENT,
    first_call::MEASUREMENT,
    memory::MEASUREMENT,
    array::MEASUREMENT,
    update::MEASUREMENT,
    planning::MEASUREMENT,
    clients::MEASUREMENT,
    triggers::MEASUREMENT,
    layout::MEASUREMENT,
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
    /// The server with the extension.
    pub(crate) server: Server,
    /// The model in this process.
    pub(crate) bare: Bare,
    /// Short questions, no two alike.
    pub(crate) queries: Queries,
    /// Short real texts.
    pub(crate) synopses: Vec<String>,
}

/// Tokens of a batch, padding included, of the loops of which the best is the reference.
const BUDGETS: [usize; 3] = [256, 512, 1024];

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
