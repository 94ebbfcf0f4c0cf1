//! Models of other precisions: how fast they are, and how near their searches are to those with fp32.

use std::process::Command;

use postgres::Client;

use super::{Bench, Measurement, rows_or_reason, table};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::server::Raw;
use crate::stats::{median, quantile};

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "precisions", what: "models of other precisions", run };

/// A precision and its bars.
struct Precision {
    name: &'static str,
    speed: f64,
    overlap: f64,
}

const PRECISIONS: [Precision; 2] = [
    Precision { name: "int8", speed: 1.6, overlap: 0.93 },
    Precision { name: "bf16", speed: 1.7, overlap: 0.98 },
];
const ROUNDS: usize = 5;
/// Texts of an UPDATE.
const TEXTS: usize = 2000;
/// Documents, and queries among other texts.
const DOCUMENTS: usize = 4000;
const QUERIES: usize = 200;
/// Results of a search.
const NEAREST: usize = 10;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let rows = PRECISIONS.iter().flat_map(|precision| {
        rows_or_reason(&format!("precision {}", precision.name), measure(bench, precision))
    });
    Ok(rows.collect())
}

fn measure(bench: &Bench, precision: &Precision) -> Result<Vec<Row>> {
    let model = add(bench, precision)?;
    let mut client = bench.server.connect()?;
    Ok(vec![speed(bench, &mut client, precision, &model)?, overlap(bench, &mut client, precision, &model)?])
}

/// Adds the model in this precision to those that the server finds. Returns its name.
fn add(bench: &Bench, precision: &Precision) -> Result<String> {
    let model = bench.arguments.path("model");
    let name = format!("{}-{}", model.file_name().unwrap_or_default().to_string_lossy(), precision.name);
    let mut command = Command::new(bench.arguments.path("engine"));
    command.args(["model", "add"]).arg(&model).args(["--precision", precision.name, "--name", &name]);
    let output = command.arg("--models").arg(bench.arguments.path("models")).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        return Err(format!("`model add` refuses it: {said}").into());
    }
    Ok(name)
}

fn speed(bench: &Bench, client: &mut Client, precision: &Precision, model: &str) -> Result<Row> {
    let texts = bench.short_texts(TEXTS);
    let vectors = [format!("embed(body, '{model}')"), "embed(body)".to_owned()];
    let mut rates = [vec![], vec![]];
    // The first call loads the model.
    client.query("SELECT embed('ready?', $1)", &[&model])?;
    for _ in 0..bench.rounds(ROUNDS) {
        for (vector, rates) in vectors.iter().zip(&mut rates) {
            table::fill(client, "updated", texts)?;
            let time = table::update_with(client, "updated", vector)?;
            rates.push(1e3 * texts.len() as f64 / time);
        }
    }
    client.batch_execute("DROP TABLE updated")?;
    let [ours, reference] = rates;
    let notes = format!(
        "`UPDATE … SET embedding = embed(body, '{model}')` of {} Debian package synopses against the same with fp32; {} \
         alternating rounds; from {:.0} to {:.0} and from {:.0} to {:.0} texts/s",
        texts.len(),
        ours.len(),
        quantile(&ours, 0.0),
        quantile(&ours, 1.0),
        quantile(&reference, 0.0),
        quantile(&reference, 1.0)
    );
    let figures = Figures::rates(median(&ours), median(&reference), Bar::AtLeast(precision.speed));
    Ok(Row::new(format!("UPDATE with {}", precision.name), figures, notes))
}

fn overlap(bench: &Bench, client: &mut Client, precision: &Precision, model: &str) -> Result<Row> {
    let (documents, others) = bench.synopses.split_at(bench.count(DOCUMENTS).min(bench.synopses.len() / 2));
    let queries = &others[..QUERIES.min(others.len())];
    let exact = bench.arguments.path("model");
    let exact = exact.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for model in [model, &exact] {
        let documents = embed(client, model, documents)?;
        let queries = embed(client, model, queries)?;
        found.push(queries.iter().map(|query| nearest(query, &documents)).collect::<Vec<_>>());
    }
    let common = found[0].iter().zip(&found[1]).map(|(ours, exact)| {
        ours.iter().filter(|place| exact.contains(place)).count() as f64 / exact.len() as f64
    });
    let overlap = common.sum::<f64>() / queries.len() as f64;
    let firsts = found[0].iter().zip(&found[1]).filter(|(ours, exact)| ours[0] == exact[0]).count();
    let figures = Figures {
        ours: format!("{overlap:.3}"),
        reference: "1".to_owned(),
        result: overlap,
        unit: Unit::Overlap,
        bar: Bar::AtLeast(precision.overlap),
    };
    let notes = format!(
        "mean share of the ten nearest of {} synopses, found exactly, that both find for {} others; both find the same \
         nearest for {firsts} of them",
        documents.len(),
        queries.len()
    );
    Ok(Row::new(format!("searches with {} and with fp32", precision.name), figures, notes))
}

fn embed(client: &mut Client, model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
    let sql = format!(
        "SELECT embed(text, '{model}') FROM unnest($1::text[]) WITH ORDINALITY AS t (text, number) ORDER BY number"
    );
    client.query(&sql, &[&texts])?.iter().map(|row| Ok(row.try_get::<_, Raw>(0)?.vector())).collect()
}

/// Places of the documents that are nearest to a query, by cosine: vectors have length 1.
fn nearest(query: &[f32], documents: &[Vec<f32>]) -> Vec<usize> {
    let near = |document: &[f32]| query.iter().zip(document).map(|(a, b)| a * b).sum::<f32>();
    let mut places: Vec<(f32, usize)> = documents.iter().map(|document| near(document)).zip(0..).collect();
    places.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    places.into_iter().take(NEAREST).map(|(_, place)| place).collect()
}
