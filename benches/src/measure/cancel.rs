//! How soon a statement that embeds ends when it is cancelled.

use std::thread;
use std::time::{Duration, Instant};

use postgres::NoTls;
use postgres::error::SqlState;

use super::{Bench, Measurement, pause};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::stats::{median, quantile};

pub(super) const MEASUREMENT: Measurement = Measurement { name: "cancel", what: WHAT, run };

const WHAT: &str = "cancel in mid-call";
const ROUNDS: usize = 10;
/// More than can be computed until the cancel comes.
const TEXTS: usize = 2000;
/// Until then a statement is under way.
const HEAD_START: Duration = Duration::from_millis(300);

/// Statements in the middle of a call: many texts in one, and rows in batches.
const STATEMENTS: [&str; 2] =
    ["SELECT cardinality(embed($1::text[]))", "SELECT count(embed(body)) FROM unnest($1::text[]) AS body"];

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let texts = &bench.synopses[..TEXTS.min(bench.synopses.len())];
    let (mut ours, mut sleeping) = (vec![], vec![]);
    let rounds = bench.rounds(ROUNDS);
    for _ in 0..rounds {
        for statement in STATEMENTS {
            ours.push(cancelled(bench, statement, texts)?);
            pause();
        }
        sleeping.push(cancelled(bench, "SELECT pg_sleep(60) FROM unnest($1::text[])", texts)?);
    }
    let worst = quantile(&ours, 1.0);
    let figures = Figures {
        ours: format!("{:.2} ms", median(&ours)),
        reference: format!("{:.2} ms", median(&sleeping)),
        result: worst,
        unit: Unit::Milliseconds,
        bar: Bar::AtMost(100.0),
    };
    let notes = format!(
        "from the cancel request to the error, 57014, of `embed(text[])` and of `embed` of rows, {} texts each and {} ms \
         after their start; medians against a cancelled `pg_sleep`, and the longest of {} for the bar",
        texts.len(),
        HEAD_START.as_millis(),
        ours.len(),
    );
    Ok(vec![Row::new(WHAT, figures, notes)])
}

/// Milliseconds from the request to cancel the statement until its error is there.
fn cancelled(bench: &Bench, statement: &str, texts: &[String]) -> Result<f64> {
    let mut client = bench.server.connect()?;
    let cancel = client.cancel_token();
    thread::scope(|scope| {
        let call = scope.spawn(move || (client.query(statement, &[&texts]).map(drop), Instant::now()));
        thread::sleep(HEAD_START);
        let request = Instant::now();
        cancel.cancel_query(NoTls)?;
        let (outcome, end) = call.join().map_err(|_| "the statement panicked")?;
        match outcome {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                Ok(end.saturating_duration_since(request).as_secs_f64() * 1e3)
            }
            Err(error) => Err(error.into()),
            Ok(()) => Err(format!("{statement} was done too soon").into()),
        }
    })
}
