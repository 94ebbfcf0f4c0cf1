//! The first call of a connection against its later ones.

use super::{Bench, Measurement};
use crate::error::Result;
use crate::report::{Bar, Figures, Row};
use crate::stats::{median, quantile, timed};

pub(super) const MEASUREMENT: Measurement = Measurement { name: "first_call", what: WHAT, run };

const WHAT: &str = "first call on a new connection, engine warm";
const CONNECTIONS: usize = 20;
const WARM_CALLS: usize = 5;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let (mut first, mut warm, mut difference, mut plain) = (vec![], vec![], vec![], vec![]);
    let connections = bench.rounds(CONNECTIONS);
    for _ in 0..connections {
        let (cold, later) = connection(bench, || format!("SELECT embed('{}')", bench.queries.next()))?;
        first.push(cold);
        warm.push(later);
        difference.push(cold - later);
        let (cold, later) = connection(bench, || "SELECT '[1,2,3]'::vector <-> '[4,5,6]'".to_owned())?;
        plain.push(cold - later);
    }
    let notes = format!(
        "the first statement of {connections} connections, `SELECT embed('…')`, against the median of {WARM_CALLS} \
         such statements after it; connecting is not counted; nine of ten within {:.2} ms; \
         the first use of pgvector alone, measured alike, costs {:.2} ms",
        quantile(&difference, 0.9),
        median(&plain),
    );
    let figures = Figures::times(median(&first), median(&warm), Bar::AtMost(5.0));
    Ok(vec![Row::new(WHAT, Figures { result: median(&difference), ..figures }, notes)])
}

/// Times of the first statement on a new connection and, as a median, of later ones. Simple queries, as psql
/// sends them: the driver would look up the types of an extension in the catalogs first.
fn connection(bench: &Bench, sql: impl Fn() -> String) -> Result<(f64, f64)> {
    let mut client = bench.server.connect()?;
    let mut times = Vec::with_capacity(1 + WARM_CALLS);
    for _ in 0..=WARM_CALLS {
        // No pause: on a virtual machine a processor that sleeps may take milliseconds to wake up, here and in the server.
        let sql = sql();
        let (time, answer) = timed(|| client.simple_query(&sql));
        answer?;
        times.push(time);
    }
    Ok((times[0], median(&times[1..])))
}
