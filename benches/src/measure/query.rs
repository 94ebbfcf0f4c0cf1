//! One short query on a kept connection against the bare call.

use postgres::{Client, Statement};

use super::{Bench, Measurement, PAUSE, pause, require_equal};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::server::{EngineCounters, Raw};
use crate::stats::{median, quantile, timed};

pub(super) const MEASUREMENT: Measurement = Measurement { name: "query", what: WHAT, run };

const WHAT: &str = "one short query, warm";
const BLOCKS: usize = 40;
/// Calls of each side in a block that are counted, after those that wake it up.
const CALLS: usize = 10;
const WAKING_CALLS: usize = 3;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut client = bench.server.connect()?;
    // A round trip with the same argument and a result of the same size, but nothing to compute.
    client.batch_execute(
        "CREATE TEMPORARY TABLE stored AS SELECT embed('a vector') AS embedding; ANALYZE stored",
    )?;
    let embed = client.prepare("SELECT embed($1)")?;
    let stored = client.prepare("SELECT embedding FROM stored WHERE $1 <> ''")?;
    let text = bench.queries.next();
    require_equal(&ask(&mut client, &embed, &text)?.vector(), &bench.bare.embed(&text)?)?;

    let (mut sql, mut direct, mut trips, mut ratios) = (Side::default(), Side::default(), vec![], vec![]);
    let mut tokens = 0;
    let blocks = bench.rounds(BLOCKS);
    for number in 0..blocks {
        let texts: Vec<String> = (0..WAKING_CALLS + CALLS).map(|_| bench.queries.next()).collect();
        // Each side goes first as often as the other.
        let mut order = [true, false];
        order.rotate_left(number % 2);
        for is_sql in order {
            if is_sql {
                let first = wake(&texts, |text| ask(&mut client, &embed, text))?;
                sql.after_pause.push(first);
                let before = EngineCounters::read(&mut client)?.compute_time;
                let times = call(&texts, |text| ask(&mut client, &embed, text))?;
                sql.add(times, EngineCounters::read(&mut client)?.compute_time - before);
            } else {
                let first = wake(&texts, |text| bench.bare.embed(text))?;
                direct.after_pause.push(first);
                let before = bench.bare.computing_time();
                let times = call(&texts, |text| bench.bare.embed(text))?;
                direct.add(times, bench.bare.computing_time() - before);
            }
        }
        ratios.push(median(sql.last_block()) / median(direct.last_block()));
        wake(&texts, |text| ask(&mut client, &stored, text))?;
        trips.extend(call(&texts, |text| ask(&mut client, &stored, text))?);
        for text in &texts {
            tokens += bench.bare.tokenize(text)?.len();
        }
    }

    let figures = Figures {
        ours: format!("{:.3} ms", median(&sql.times)),
        reference: format!("{:.3} ms", median(&direct.times)),
        result: median(&sql.times) / median(&direct.times),
        unit: Unit::Times,
        bar: Bar::AtMost(1.15),
    };
    let notes = format!(
        "`SELECT embed($1)`, prepared, against tokenizer and ONNX Runtime in the bench's own process; \
         {count} calls each in {blocks} alternating blocks, distinct texts of {tokens:.1} tokens; nine of ten \
         calls below {ours_high:.3} and {bare_high:.3} ms; ratios of blocks from {low:.2} to {high:.2} \
         (quartiles); {ours_computing:.3} and {bare_computing:.3} ms of a call are ONNX Runtime's; a round trip that \
         reads a stored vector takes {trip:.3} ms",
        count = sql.times.len(),
        tokens = tokens as f64 / (blocks * (WAKING_CALLS + CALLS)) as f64,
        ours_high = quantile(&sql.times, 0.9),
        bare_high = quantile(&direct.times, 0.9),
        low = quantile(&ratios, 0.25),
        high = quantile(&ratios, 0.75),
        ours_computing = median(&sql.computing),
        bare_computing = median(&direct.computing),
        trip = median(&trips),
    );
    let after_pause = Figures {
        ours: format!("{:.3} ms", median(&sql.after_pause)),
        reference: format!("{:.3} ms", median(&direct.after_pause)),
        result: median(&sql.after_pause) / median(&direct.after_pause),
        unit: Unit::Times,
        bar: Bar::None,
    };
    let after_pause_notes = format!(
        "the first call of each of these blocks, {} ms after the last of anybody: caches are cold, and all threads sleep",
        PAUSE.as_millis()
    );
    Ok(vec![
        Row::new(WHAT, figures, notes),
        Row::new("one short query after a pause", after_pause, after_pause_notes),
    ])
}

/// What one side of the comparison took, in milliseconds.
#[derive(Default)]
struct Side {
    /// Of each call.
    times: Vec<f64>,
    /// Of the first call of each block, which is not one of those.
    after_pause: Vec<f64>,
    /// ONNX Runtime's part of a call, the mean of each block.
    computing: Vec<f64>,
}

impl Side {
    fn add(&mut self, times: Vec<f64>, computing: f64) {
        self.computing.push(computing / times.len() as f64);
        self.times.extend(times);
    }

    fn last_block(&self) -> &[f64] {
        &self.times[self.times.len() - CALLS..]
    }
}

fn ask(client: &mut Client, statement: &Statement, text: &str) -> Result<Raw> {
    Ok(client.query_one(statement, &[&text])?.try_get(0)?)
}

/// The first calls of a side, after a pause; returns the time of the very first.
fn wake<T>(texts: &[String], mut call: impl FnMut(&str) -> Result<T>) -> Result<f64> {
    pause();
    let (time, first) = timed(|| call(&texts[0]));
    first?;
    texts[1..WAKING_CALLS].iter().try_for_each(|text| call(text).map(drop))?;
    Ok(time)
}

/// Times of the calls that count.
fn call<T>(texts: &[String], mut call: impl FnMut(&str) -> Result<T>) -> Result<Vec<f64>> {
    let times = texts[WAKING_CALLS..].iter().map(|text| {
        let (time, value) = timed(|| call(text));
        value.map(|_| time)
    });
    times.collect()
}
