//! Single calls while bulk work keeps the engine busy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postgres::{Client, NoTls};

use super::{Bench, Measurement, callers, pause, table};
use crate::error::Result;
use crate::report::{Bar, Figures, Row};
use crate::server::EngineCounters;
use crate::stats::{median, quantile};

pub(super) const MEASUREMENT: Measurement = Measurement { name: "busy", what: WHAT, run };

const WHAT: &str = "single calls while bulk work saturates the engine";
const CLIENTS: usize = 8;
const ROUNDS: usize = 3;
const SECONDS: f64 = 5.0;
/// Texts of the bulk work: more than it gets done meanwhile.
const BULK: usize = 10_000;
const WORK: &str = "CALL vector_embed.backfill('bulk')";
/// Until the bulk work is under way.
const HEAD_START: Duration = Duration::from_millis(500);

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut client = bench.server.connect()?;
    let duration = bench.duration(SECONDS);
    let batch = whole_batch(bench, &mut client)?;
    let (mut idle, mut busy, mut shares) = (vec![], vec![], vec![]);
    for _ in 0..bench.rounds(ROUNDS) {
        pause();
        idle.extend(callers::call(bench, CLIENTS, duration)?);
        // All of them also in a quick run, which would be over too soon.
        table::fill(&mut client, "bulk", &bench.synopses[..BULK.min(bench.synopses.len())])?;
        client.batch_execute("SELECT vector_embed.attach('bulk', 'embedding', '{body}')")?;
        let (times, share) = beside(bench, &mut client, duration)?;
        busy.extend(times);
        shares.push(share);
        client.batch_execute("DROP TABLE bulk")?;
    }
    let limit = 5.0 * median(&idle) + batch;
    let high = quantile(&busy, 0.99);
    let figures = Figures { result: high, ..Figures::times(high, median(&idle), Bar::AtMost(limit)) };
    let notes = format!(
        "the time below which 99 of 100 calls of {CLIENTS} clients stay beside `{WORK}`, and the median when they are \
         alone; the bar is five times that and a batch of the bulk work, which takes {batch:.1} ms; {} alternating rounds \
         of {:.1} s; alone 99 of 100 stay below {:.1} ms, beside the bulk work half of them below {:.1} ms and all of {} \
         below {:.1} ms; the bulk work gets {:.0} % of the texts computed",
        bench.rounds(ROUNDS),
        duration.as_secs_f64(),
        quantile(&idle, 0.99),
        median(&busy),
        busy.len(),
        quantile(&busy, 1.0),
        100.0 * median(&shares),
    );
    Ok(vec![Row::new(WHAT, figures, notes)])
}

/// Milliseconds that the engine computes a batch of bulk work.
fn whole_batch(bench: &Bench, client: &mut Client) -> Result<f64> {
    let before = EngineCounters::read(client)?;
    client.query("SELECT cardinality(embed($1::text[]))", &[&bench.short_texts(2000)])?;
    let meanwhile = EngineCounters::read(client)?.since(before);
    Ok(meanwhile.compute_time / meanwhile.batches)
}

/// Times of the clients' calls while another session does the bulk work, and its share of all texts computed.
fn beside(bench: &Bench, observer: &mut Client, duration: Duration) -> Result<(Vec<f64>, f64)> {
    let mut bulk = bench.server.connect()?;
    let stop = bulk.cancel_token();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let outcome = bulk.batch_execute(WORK);
            ended.store(true, Ordering::Relaxed);
            outcome
        });
        thread::sleep(HEAD_START);
        let before = EngineCounters::read(observer)?;
        let times = callers::call(bench, CLIENTS, duration)?;
        let meanwhile = EngineCounters::read(observer)?.since(before);
        let was_busy = !ended.load(Ordering::Relaxed);
        stop.cancel_query(NoTls)?;
        let outcome = worker.join().map_err(|_| "the bulk work panicked")?;
        if !was_busy {
            outcome?;
            return Err("the bulk work was done too soon".into());
        }
        let share = 1.0 - times.len() as f64 / meanwhile.texts;
        Ok((times, share))
    })
}
