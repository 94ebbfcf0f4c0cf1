//! `verify`: whether stored vectors are those that a model makes of the stored texts.

use pgrx::pg_sys;
use pgrx::prelude::*;
use vector_embed_protocol::{Overlong, Purpose};

use crate::client::{self, EmbedOptions};
use crate::error::{Error, OrRaise};
use crate::pg::settings::Model;
use crate::pg::spi::{self, Stored};
use crate::pg::table::{Table, quote_identifier};
use crate::pg::text::Text;
use crate::pg::vector::TextArray;

/// Vectors of the same text by the same model are as near as this, also in half precision and on other hardware.
/// all-MiniLM-L6-v2 in int8 is at 0.995 of its own fp32.
const AGREES: f64 = 0.999;
/// Another precision, another prompt. Unrelated spaces are near 0.
const CLOSE: f64 = 0.95;
/// A vector whose length differs from 1 by more is not normalized.
const UNIT: f64 = 1e-3;
/// Truncation lengths in use, beside the model's own.
const LENGTHS: [u32; 5] = [64, 128, 256, 384, 512];

const MOST: i32 = 10_000;

type Row = TableIterator<
    'static,
    (
        name!(verdict, &'static str),
        name!(advice, String),
        name!(compared, i64),
        name!(agreeing, i64),
        name!(min_cosine, Option<f64>),
        name!(mean_cosine, Option<f64>),
        name!(median_cosine, Option<f64>),
        name!(max_tokens, i32),
        name!(normalized, Option<bool>),
    ),
>;

#[pg_extern(sql = false)]
fn verify(
    relation: Option<pg_sys::Oid>,
    embedding: Option<Text<'_>>,
    columns: Option<TextArray<'_>>,
    model: Option<Text<'_>>,
    sample: Option<i32>,
) -> Row {
    let found = || {
        let columns = columns.as_ref().ok_or(Error::Null("columns"))?;
        let columns = super::names(columns)?;
        let embedding = embedding.as_ref().ok_or(Error::Null("embedding"))?.as_str();
        let model = model.as_ref().map_or(Model::Default, |model| Model::Named(model.as_str()));
        let sample = sample.ok_or(Error::Null("sample"))?;
        if !(1..=MOST).contains(&sample) {
            return Err(Error::Sample { most: MOST });
        }
        let relation = relation.ok_or(Error::Null("relation"))?;
        let stored = spi::stored(&query(&Table::open_to_read(relation)?, embedding, &columns, sample)?)?;
        Findings::of(stored, &model.name()?)
    };
    let found = found().or_raise();
    TableIterator::once((
        found.verdict.name(),
        found.advice(),
        found.cosines.len() as i64,
        found.agreeing() as i64,
        found.cosines.first().copied(),
        found.mean(),
        found.median(),
        found.max_tokens.unwrap_or(found.model_max_tokens) as i32,
        found.normalized,
    ))
}

/// Half of the sample are the longest texts, since only these show at which length they were cut. The rest is chosen
/// by a hash, so that the same rows give the same answer.
fn query(table: &Table, embedding: &str, columns: &[String], sample: i32) -> Result<String, Error> {
    if columns.is_empty() {
        return Err(Error::NoColumns);
    }
    for name in columns.iter().map(String::as_str).chain([embedding]) {
        table.column(name)?;
    }
    let texts: Vec<String> = columns.iter().map(|name| format!("{}::text", quote_identifier(name))).collect();
    let texts = texts.join(", ");
    let (table, embedding) = (table.quoted_name(), quote_identifier(embedding));
    let rows = format!(
        "SELECT pg_catalog.concat_ws(E'\\n\\n', {texts}) AS content, {embedding}::pg_catalog.float4[] AS vector \
         FROM {table} WHERE {embedding} IS NOT NULL AND pg_catalog.num_nonnulls({texts}) OPERATOR(pg_catalog.>) 0"
    );
    let longest = sample / 2;
    let others = sample - longest;
    Ok(format!(
        "(SELECT content, vector FROM ({rows}) AS r \
          ORDER BY pg_catalog.octet_length(content) USING OPERATOR(pg_catalog.>) LIMIT {longest}) \
         UNION \
         (SELECT content, vector FROM ({rows}) AS r \
          ORDER BY pg_catalog.hashtextextended(content COLLATE \"C\", 0) LIMIT {others})"
    ))
}

/// What the stored vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Dimensions,
    Same,
    OtherLength,
    Partly,
    Close,
    Other,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing to compare",
            Self::Dimensions => "other dimensions",
            Self::Same => "same",
            Self::OtherLength => "same, cut at another length",
            Self::Partly => "partly the same",
            Self::Close => "close",
            Self::Other => "another space",
        }
    }
}

struct Findings {
    verdict: Verdict,
    model: String,
    model_max_tokens: u32,
    /// The length at which texts were cut, where it is not the model's own.
    max_tokens: Option<u32>,
    /// Cosines of stored and computed vectors, ascending.
    cosines: Vec<f64>,
    normalized: Option<bool>,
    /// Dimensions of the model's vectors, and of a stored one that has others.
    dimensions: (usize, usize),
}

impl Findings {
    fn of(stored: Vec<Stored>, model: &str) -> Result<Self, Error> {
        let info = client::model(model)?;
        let mut findings = Self {
            verdict: Verdict::Nothing,
            model: model.to_owned(),
            model_max_tokens: info.max_tokens,
            max_tokens: None,
            cosines: Vec::new(),
            normalized: None,
            dimensions: (0, 0),
        };
        if stored.is_empty() {
            return Ok(findings);
        }
        let is_unit = |row: &Stored| (length(&row.vector) - 1.0).abs() <= UNIT;
        findings.normalized = Some(stored.iter().all(is_unit));

        let rows: Vec<&Stored> = stored.iter().collect();
        let mut cosines = match compare(&rows, model, None)? {
            Compared::Cosines(cosines) => cosines,
            Compared::Dimensions(of_model, other) => {
                findings.dimensions = (of_model, other);
                findings.verdict = Verdict::Dimensions;
                return Ok(findings);
            }
        };
        findings.max_tokens = other_length(&rows, model, info.max_tokens, &mut cosines)?;
        cosines.sort_unstable_by(f64::total_cmp);
        findings.cosines = cosines;
        findings.verdict = findings.judge();
        Ok(findings)
    }

    fn judge(&self) -> Verdict {
        let (agreeing, all) = (self.agreeing(), self.cosines.len());
        match self.max_tokens {
            None if agreeing == all => Verdict::Same,
            Some(_) if agreeing == all => Verdict::OtherLength,
            _ if 2 * agreeing >= all => Verdict::Partly,
            _ if self.median().is_some_and(|median| median >= CLOSE) => Verdict::Close,
            _ => Verdict::Other,
        }
    }

    fn agreeing(&self) -> usize {
        self.cosines.iter().filter(|cosine| **cosine >= AGREES).count()
    }

    fn mean(&self) -> Option<f64> {
        let count = self.cosines.len();
        (count > 0).then(|| self.cosines.iter().sum::<f64>() / count as f64)
    }

    fn median(&self) -> Option<f64> {
        let middle = self.cosines.len() / 2;
        match self.cosines.len() {
            0 => None,
            count if count % 2 == 1 => Some(self.cosines[middle]),
            _ => Some((self.cosines[middle - 1] + self.cosines[middle]) / 2.0),
        }
    }

    fn advice(&self) -> String {
        let (model, all) = (&self.model, self.cosines.len());
        let cut = self.max_tokens.map_or_else(String::new, |length| {
            let own = self.model_max_tokens;
            format!(" They were made of the first {length} tokens of a text, where the model takes {own}.")
        });
        let scaled = match (self.normalized, self.verdict) {
            (Some(false), Verdict::Same | Verdict::OtherLength | Verdict::Partly) => {
                " They are not all of unit length: compare them by cosine distance, or normalize them with \
                 l2_normalize() when they are copied."
            }
            _ => "",
        };
        let main = match self.verdict {
            Verdict::Nothing => "No row has both a text and a vector: embed the texts.".to_owned(),
            Verdict::Dimensions => {
                let (of_model, other) = self.dimensions;
                format!(
                    "The stored vectors have {other} dimensions and those of model \"{model}\" {of_model}: \
                     embed the texts again."
                )
            }
            Verdict::Same => format!("The stored vectors are those of model \"{model}\": copy them."),
            Verdict::OtherLength => format!(
                "The stored vectors are those of model \"{model}\", of texts cut at another length: copy those of \
                 shorter texts, and embed longer texts again."
            ),
            Verdict::Partly => format!(
                "{} of {all} stored vectors are those of model \"{model}\"; the others are of another text than \
                 the one beside them, or of another model: embed the texts again.",
                self.agreeing()
            ),
            Verdict::Close => format!(
                "The stored vectors are near those of model \"{model}\" and not the same, as with another \
                 precision or prompt: embed the texts again, unless the model that made them can be installed."
            ),
            Verdict::Other => format!(
                "The stored vectors are not those of model \"{model}\": embed the texts again, or install the \
                 model that made them."
            ),
        };
        format!("{main}{cut}{scaled}")
    }
}

/// Looks for another length at which the texts that disagree were cut. Where one makes more of them agree, their
/// cosines become those of that length.
fn other_length(rows: &[&Stored], model: &str, own: u32, cosines: &mut [f64]) -> Result<Option<u32>, Error> {
    let disagreeing: Vec<usize> = (0..rows.len()).filter(|row| cosines[*row] < AGREES).collect();
    let texts: Vec<&Stored> = disagreeing.iter().map(|row| rows[*row]).collect();
    let mut best: Option<(usize, u32, Vec<f64>)> = None;
    for length in LENGTHS.into_iter().filter(|length| *length != own && !texts.is_empty()) {
        let Compared::Cosines(there) = compare(&texts, model, Some(length))? else { continue };
        let agreeing = there.iter().filter(|cosine| **cosine >= AGREES).count();
        if agreeing > best.as_ref().map_or(0, |(most, ..)| *most) {
            best = Some((agreeing, length, there));
        }
    }
    Ok(best.map(|(_, length, there)| {
        disagreeing.into_iter().zip(there).for_each(|(row, cosine)| cosines[row] = cosine);
        length
    }))
}

enum Compared {
    Cosines(Vec<f64>),
    /// The model's dimensions, and the first others.
    Dimensions(usize, usize),
}

/// Computes the texts' vectors, cut at `max_tokens` or the model's own limit, and compares them with those stored.
fn compare(rows: &[&Stored], model: &str, max_tokens: Option<u32>) -> Result<Compared, Error> {
    let options = EmbedOptions {
        model,
        purpose: Purpose::Document,
        overlong: Overlong::Truncate,
        max_tokens,
        expected_hash: None,
    };
    let texts: Vec<&str> = rows.iter().map(|row| &*row.text).collect();
    let mut cosines = vec![0.0; rows.len()];
    let mut others = None;
    client::embed(&options, &texts, &mut |row, numbers| {
        let stored = &rows[row].vector;
        if numbers.len() / size_of::<f32>() == stored.len() {
            cosines[row] = cosine(stored, numbers);
        } else {
            others.get_or_insert((numbers.len() / size_of::<f32>(), stored.len()));
        }
    })
    .map_err(Error::without_place)?;
    Ok(match others {
        Some((of_model, other)) => Compared::Dimensions(of_model, other),
        None => Compared::Cosines(cosines),
    })
}

/// 0 where one of the vectors is zero.
fn cosine(stored: &[f32], numbers: &[u8]) -> f64 {
    let computed: Vec<f32> = numbers
        .chunks_exact(size_of::<f32>())
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
        .collect();
    let product: f64 = stored.iter().zip(&computed).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let lengths = length(stored) * length(&computed);
    if lengths > 0.0 { product / lengths } else { 0.0 }
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt()
}
