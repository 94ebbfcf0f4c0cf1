//! Rows a second that come in through the triggers, or by statements that embed, against one array call.

use std::io::Write as _;

use postgres::Client;

use super::{Bench, Measurement, pause, table};
use crate::error::Result;
use crate::report::{Bar, Figures, Row};
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
    /// Without a trigger.
    Select,
    /// Without a trigger, of rows that are there.
    Update,
}

impl Way {
    fn texts(self, bench: &Bench) -> &[String] {
        match self {
            Self::Single => bench.short_texts(SINGLE),
            _ => bench.short_texts(BULK),
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Single => "INSERTs of one row",
            Self::ManyRows => "one INSERT of many rows",
            Self::Copy => "COPY",
            Self::Select => "INSERT … SELECT embed(…)",
            Self::Update => "UPDATE … SET embedding = embed(…)",
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
            Self::Select => {
                let insert =
                    format!("INSERT INTO {table} (body, embedding) SELECT body, embed(body) FROM read");
                client.execute(&insert, &[])?;
            }
            Self::Update => {
                client.execute(&format!("UPDATE {table} SET embedding = embed(body)"), &[])?;
            }
        }
        Ok(())
    }
}

/// A way into a table, and the milliseconds that a row took.
struct Side {
    way: Way,
    table: &'static str,
    times: Vec<f64>,
}

/// Tables by their triggers' timing, and what comes into them.
const TABLES: [(&str, &[Way]); 3] = [
    ("by_hand", &[Way::Select, Way::Update]),
    ("by_row", &[Way::Single, Way::ManyRows, Way::Copy]),
    ("by_statement", &[Way::Single, Way::ManyRows, Way::Copy]),
];

/// The timing of a table's triggers, where it has any.
fn timing(table: &str) -> Option<&str> {
    table.strip_prefix("by_").filter(|timing| *timing != "hand")
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut client = bench.server.connect()?;
    for (table, _) in TABLES {
        client.batch_execute(&format!(
            "CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text,
                 embedding vector(384))"
        ))?;
        if let Some(timing) = timing(table) {
            client.batch_execute(&format!(
                "SELECT vector_embed.attach('{table}', 'embedding', '{{body}}', timing => '{timing}')"
            ))?;
        }
    }
    let bulk = bench.short_texts(BULK);
    client.batch_execute("CREATE TABLE read (body text)")?;
    client.execute("INSERT INTO read SELECT unnest($1::text[])", &[&bulk])?;
    client.batch_execute("ANALYZE read")?;

    let array = client.prepare("SELECT embed($1::text[])")?;
    let mut calls = Vec::new();
    let mut sides: Vec<Side> = TABLES
        .into_iter()
        .flat_map(|(table, ways)| ways.iter().map(move |way| Side { way: *way, table, times: vec![] }))
        .collect();
    let rounds = bench.rounds(ROUNDS);
    for _ in 0..rounds {
        pause();
        let (time, row) = timed(|| client.query_one(&array, &[&bulk]));
        row?;
        calls.push(time / bulk.len() as f64);
        for Side { way, table, times } in &mut sides {
            let texts = way.texts(bench);
            // The UPDATE finds the rows of the INSERT before it.
            if !matches!(way, Way::Update) {
                client.batch_execute(&format!("TRUNCATE {table}"))?;
            }
            pause();
            let (time, loaded) = timed(|| way.load(&mut client, table, texts));
            loaded?;
            times.push(time / texts.len() as f64);
            table::require_vectors(&mut client, table, texts.len())?;
        }
    }
    client.batch_execute("DROP TABLE by_hand, by_row, by_statement, read")?;

    let per_second = |times: &[f64]| 1e3 / median(times);
    let rows = sides.iter().map(|Side { way, table, times }| {
        let figures = Figures::rates(per_second(times), per_second(&calls), Bar::None);
        let (triggers, place) = match timing(table) {
            Some(timing) => (format!(", timing {timing}"), format!("attached with timing \"{timing}\"")),
            None => (String::new(), "without triggers".to_owned()),
        };
        let notes = format!(
            "{} rows of short real texts into a table with a primary key and no other index, {place}, against the texts of \
             one array call of {}; {rounds} alternating rounds",
            way.texts(bench).len(),
            bulk.len()
        );
        Row::new(format!("{}{triggers}", way.what()), figures, notes)
    });
    Ok(rows.collect())
}
