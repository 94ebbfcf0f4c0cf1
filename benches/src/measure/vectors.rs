//! Whether vectors are those of sentence-transformers, in any language and of any length.

use std::fs;

use super::{Bench, Measurement, cosine};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::server::Raw;
use crate::stats::median;

pub(super) const MEASUREMENT: Measurement = Measurement { name: "vectors", what: WHAT, run };

const WHAT: &str = "fp32 vectors against sentence-transformers";

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let golden = bench.arguments.path("golden");
    let texts: Vec<String> = serde_json::from_slice(&fs::read(golden.join("texts.json"))?)?;
    let model = bench.arguments.path("model");
    let model = model.file_name().ok_or("a model without a name")?.to_string_lossy();
    let bytes = fs::read(golden.join(format!("{model}.f32")))?;
    let numbers: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
    let theirs: Vec<&[f32]> = numbers.chunks_exact(numbers.len() / texts.len()).collect();
    let mut client = bench.server.connect()?;
    let rows = client.query(
        "SELECT vector FROM unnest(embed($1::text[])) WITH ORDINALITY AS t (vector, number) ORDER BY number",
        &[&texts],
    )?;
    if rows.len() != theirs.len() {
        return Err(format!("{} vectors for {} texts", rows.len(), theirs.len()).into());
    }
    let mut cosines = Vec::with_capacity(rows.len());
    for (row, theirs) in rows.iter().zip(theirs) {
        cosines.push(cosine(&row.try_get::<_, Raw>(0)?.vector(), theirs));
    }
    let least = cosines.iter().copied().fold(1.0, f64::min);
    let figures = Figures {
        ours: format!("{:.7}", median(&cosines)),
        reference: "1".to_owned(),
        result: least,
        unit: Unit::Cosine,
        bar: Bar::AtLeast(0.99999),
    };
    let longest = texts.iter().map(String::len).max().unwrap_or(0);
    let notes = format!(
        "median and least cosine of `embed(text[])` to the vectors of tests/golden, for {} texts of up to {longest} bytes \
         in many languages",
        texts.len(),
    );
    Ok(vec![Row::new(WHAT, figures, notes)])
}
