//! Whether many rows cost more by the row than few.

use postgres::Client;

use super::{Bench, Measurement, table};
use crate::error::Result;
use crate::report::{Bar, Figures, Row};
use crate::stats::{median, quantile};
use crate::texts;

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "growth", what: "rows a second of small and large UPDATEs", run };

const SIZES: [usize; 3] = [1000, 10_000, 60_000];

fn run(bench: &Bench) -> Result<Vec<Row>> {
    rows(bench, "by one UPDATE", SIZES, |client, texts| {
        table::fill(client, "growing", texts)?;
        let time = table::update(client, "growing")?;
        table::require_vectors(client, "growing", texts.len())?;
        client.batch_execute("DROP TABLE growing")?;
        Ok(time)
    })
}

/// `work`, which embeds texts and says how many milliseconds it took, with as many texts as each of `sizes`, against
/// the first of them.
pub(super) fn rows(
    bench: &Bench,
    how: &str,
    sizes: [usize; 3],
    mut work: impl FnMut(&mut Client, &[String]) -> Result<f64>,
) -> Result<Vec<Row>> {
    let sizes = sizes.map(|size| bench.count(size));
    let texts = texts::tiny(sizes[2]);
    let mut client = bench.server.connect()?;
    let mut speeds = sizes.map(|_| Vec::new());
    // The first comes between the others, and the first time is not counted.
    work(&mut client, &texts[..sizes[0]])?;
    for place in [0, 1, 0, 2, 0] {
        let time = work(&mut client, &texts[..sizes[place]])?;
        speeds[place].push(1e3 * sizes[place] as f64 / time);
    }
    let rows = (1..sizes.len()).map(|place| {
        let figures = Figures::rates(median(&speeds[place]), median(&speeds[0]), Bar::AtLeast(0.9));
        let notes = format!(
            "rows a second, texts of five words, which a model computes so fast that all else counts; against {} rows, \
             which came before, between and after the larger ones and reached from {:.0} to {:.0}",
            sizes[0],
            quantile(&speeds[0], 0.0),
            quantile(&speeds[0], 1.0)
        );
        Row::new(format!("{} rows {how}", sizes[place]), figures, notes)
    });
    Ok(rows.collect())
}
