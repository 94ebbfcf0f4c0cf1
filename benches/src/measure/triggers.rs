//! Rows a second that come in through the triggers, against one array call.

use std::io::Write as _;

use postgres::Client;

use super::{Bench, Measurement, pause};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::stats::{median, timed};

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "triggers", what: "rows that come in through triggers", run };

const ROUNDS: usize = 5;
/// Rows of a round; fewer where each is a transaction of its own.
const BULK: usize = 1000;
const SINGLE: usize = 200;

/// How rows come in.
#[derive(Debug, Clone, Copy)]
enum Way {
    Single,
    ManyRows,
    Copy,
}

impl Way {
    const ALL: [Self; 3] = [Self::Single, Self::ManyRows, Self::Copy];

    fn rows(self) -> usize {
        match self {
            Self::Single => SINGLE,
            Self::ManyRows | Self::Copy => BULK,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Single => "INSERTs of one row",
            Self::ManyRows => "one INSERT of many rows",
            Self::Copy => "COPY",
        }
    }

    fn load(self, client: &mut Client, table: &str, texts: &[String]) -> Result<()> {
        match self {
            Self::Single => {
                let insert = client.prepare(&format!("INSERT INTO {table} (body) VALUES ($1)"))?;
                for text in texts {
                    client.execute(&insert, &[text])?;
                }
            }
            Self::ManyRows => {
                let insert = format!("INSERT INTO {table} (body) SELECT unnest($1::text[])");
                client.execute(&insert, &[&texts])?;
            }
            Self::Copy => {
                let mut copy = client.copy_in(&format!("COPY {table} (body) FROM STDIN (FORMAT csv)"))?;
                for text in texts {
                    writeln!(copy, "\"{}\"", text.replace('"', "\"\""))?;
                }
                copy.finish()?;
            }
        }
        Ok(())
    }
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    const TIMINGS: [&str; 2] = ["row", "statement"];
    let mut client = bench.server.connect()?;
    for timing in TIMINGS {
        client.batch_execute(&format!(
            "CREATE TABLE by_{timing} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text,
                 embedding vector(384));
             SELECT vector_embed.attach('by_{timing}', 'embedding', '{{body}}', timing => '{timing}')"
        ))?;
    }
    let array = client.prepare("SELECT embed($1::text[])")?;
    let mut calls = Vec::new();
    let mut sides: Vec<(Way, &str, Vec<f64>)> =
        Way::ALL.into_iter().flat_map(|way| TIMINGS.map(|timing| (way, timing, Vec::new()))).collect();
    for _ in 0..ROUNDS {
        pause();
        let (time, row) = timed(|| client.query_one(&array, &[&&bench.synopses[..BULK]]));
        row?;
        calls.push(time / BULK as f64);
        for (way, timing, times) in &mut sides {
            let table = format!("by_{timing}");
            client.batch_execute(&format!("TRUNCATE {table}"))?;
            pause();
            let texts = &bench.synopses[..way.rows()];
            let (time, loaded) = timed(|| way.load(&mut client, &table, texts));
            loaded?;
            times.push(time / texts.len() as f64);
            let missing = format!("SELECT count(*) FROM {table} WHERE embedding IS NOT NULL");
            let embedded: i64 = client.query_one(&missing, &[])?.try_get(0)?;
            if embedded as usize != texts.len() {
                return Err(format!("{embedded} of {} rows have vectors", texts.len()).into());
            }
        }
    }
    client.batch_execute("DROP TABLE by_row, by_statement")?;
    let per_second = |times: &Vec<f64>| 1e3 / median(times);
    let reference = per_second(&calls);
    let rows = sides.iter().map(|(way, timing, times)| {
        let figures = Figures {
            ours: format!("{:.0}/s", per_second(times)),
            reference: format!("{reference:.0}/s"),
            result: per_second(times) / reference,
            unit: Unit::Times,
            bar: Bar::None,
        };
        let notes = format!(
            "{} rows of short real texts into a table with a primary key and no other index, attached with timing \
             \"{timing}\", against the texts of one array call of {BULK}; {ROUNDS} alternating rounds",
            way.rows()
        );
        Row::new(format!("{}, timing {timing}", way.what()), figures, notes)
    });
    Ok(rows.collect())
}
