//! Many clients that each ask for one short text at a time.

use super::{Bench, Measurement, callers, pause};
use crate::error::Result;
use crate::report::{Bar, Figures, Row};
use crate::server::EngineCounters;
use crate::stats::{median, quantile};

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "clients", what: "many clients of single short texts", run };

const CLIENTS: [usize; 4] = [1, 8, 32, 100];
const ROUNDS: usize = 5;
const SECONDS: f64 = 2.0;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut observer = bench.server.connect()?;
    let mut sides = CLIENTS.map(|_| Side::default());
    let duration = bench.duration(SECONDS);
    for _ in 0..bench.rounds(ROUNDS) {
        for (count, side) in CLIENTS.into_iter().zip(&mut sides) {
            pause();
            let before = EngineCounters::read(&mut observer)?;
            let times = callers::call(bench, count, duration)?;
            let meanwhile = EngineCounters::read(&mut observer)?.since(before);
            side.speeds.push(times.len() as f64 / duration.as_secs_f64());
            side.together.push(meanwhile.texts / meanwhile.batches);
            side.waits.extend(times);
        }
    }
    let one = median(&sides[0].speeds);
    let rows = CLIENTS.into_iter().zip(&sides).skip(1).map(|(count, side)| {
        let bar = if count == 32 { Bar::AtLeast(1.5) } else { Bar::None };
        let notes = format!(
            "throughput of prepared `SELECT embed($1)` against one client's; {} alternating rounds of {:.1} s, no \
             errors; a call takes {:.1} ms, nine of ten below {:.1} ms; {:.1} texts share a batch",
            side.speeds.len(),
            duration.as_secs_f64(),
            median(&side.waits),
            quantile(&side.waits, 0.9),
            median(&side.together),
        );
        let figures = Figures::rates(median(&side.speeds), one, bar);
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
