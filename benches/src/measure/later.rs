//! Rows whose vectors are made after commit, by workers or by a backfill.

use postgres::Client;

use super::contest::Contest;
use super::{Bench, Measurement, growth, pause, rows_or_reason, table};
use crate::error::Result;
use crate::report::{Bar, Row};
use crate::stats::timed;

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "later", what: "vectors that are made after commit", run };

const ROUNDS: usize = 3;
const TEXTS: usize = 4000;
/// Texts with which the reference finds its batches.
const SAMPLE: usize = 1000;
const SIZES: [usize; 3] = [1000, 10_000, 100_000];

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let ways: [Way; 2] = [
        Way {
            what: "by the queue",
            how: "one INSERT of Debian package synopses into a table attached with timing `queue`, until \
                  `CALL vector_embed.drain` returns",
            work: by_queue,
        },
        Way {
            what: "by a backfill",
            how: "`CALL vector_embed.backfill` for a table of Debian package synopses without vectors",
            work: by_backfill,
        },
    ];
    Ok(ways
        .iter()
        .flat_map(|way| rows_or_reason(&format!("rows {}", way.what), way.measure(bench)))
        .collect())
}

struct Way {
    what: &'static str,
    how: &'static str,
    /// Embeds texts and says how many milliseconds it took.
    work: fn(&mut Client, &[String]) -> Result<f64>,
}

impl Way {
    fn measure(&self, bench: &Bench) -> Result<Vec<Row>> {
        let mut client = bench.server.connect()?;
        let texts = bench.short_texts(TEXTS);
        let mut contest = Contest::new(bench, bench.short_texts(SAMPLE))?;
        for _ in 0..bench.rounds(ROUNDS) {
            contest.round(texts, || (self.work)(&mut client, texts))?;
        }
        table::require_true(bench, &mut client, "later", texts)?;
        let what = format!("{} short real texts {}", texts.len(), self.what);
        let mut rows = vec![contest.against_loop(&what, self.how, Bar::None)];
        rows.extend(growth::rows(bench, self.what, SIZES, |client, texts| {
            let time = (self.work)(client, texts)?;
            table::require_vectors(client, "later", texts.len())?;
            Ok(time)
        })?);
        client.batch_execute("DROP TABLE later")?;
        Ok(rows)
    }
}

fn by_queue(client: &mut Client, texts: &[String]) -> Result<f64> {
    table::fill(client, "later", &[])?;
    client.batch_execute("SELECT vector_embed.attach('later', 'embedding', '{body}', timing => 'queue')")?;
    pause();
    let (time, done) = timed(|| {
        table::insert(client, "later", texts)?;
        Ok(client.batch_execute("CALL vector_embed.drain('later')")?)
    });
    let done: Result<()> = done;
    done.map(|()| time)
}

fn by_backfill(client: &mut Client, texts: &[String]) -> Result<f64> {
    table::fill(client, "later", texts)?;
    client.batch_execute("SELECT vector_embed.attach('later', 'embedding', '{body}')")?;
    pause();
    let (time, done) = timed(|| client.batch_execute("CALL vector_embed.backfill('later')"));
    done?;
    Ok(time)
}
