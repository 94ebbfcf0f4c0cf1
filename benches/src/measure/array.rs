//! Many short texts in one call against the best loop over ONNX Runtime.

use super::{BUDGETS, Bench, Measurement, pause, require_equal};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::server::Raw;
use crate::stats::{median, quantile, timed};

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "array", what: "short real texts in one call", run };

const ROUNDS: usize = 7;
/// Texts of one call.
const TEXTS: usize = 2000;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let texts = &bench.synopses[..TEXTS.min(bench.synopses.len())];
    let mut client = bench.server.connect()?;
    let embed = client.prepare("SELECT embed($1::text[])")?;
    let stored = client.prepare("SELECT embed($1)")?;

    let mut ours = Vec::new();
    let mut loops = BUDGETS.map(|_| Vec::new());
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        pause();
        let (time, row) = timed(|| client.query_one(&embed, &[&texts]));
        bytes = row?.try_get::<_, Raw>(0)?.bytes();
        ours.push(time);
        for (budget, times) in BUDGETS.into_iter().zip(&mut loops) {
            pause();
            let (time, vectors) = timed(|| bench.bare.embed_sorted(texts, budget));
            vectors?;
            times.push(time);
        }
    }
    for (text, vector) in texts.iter().zip(bench.bare.embed_sorted(texts, BUDGETS[0])?).step_by(100) {
        let row = client.query_one(&stored, &[text])?;
        require_equal(&row.try_get::<_, Raw>(0)?.vector(), &vector)?;
    }

    let mut tokens = 0;
    for text in texts {
        tokens += bench.bare.tokenize(text)?.len();
    }
    let per_second = |times: &Vec<f64>| texts.len() as f64 / median(times) * 1e3;
    let speeds = loops.each_ref().map(per_second);
    let (budget, best) =
        BUDGETS.into_iter().zip(speeds).max_by(|(_, a), (_, b)| a.total_cmp(b)).ok_or("no loop")?;
    let figures = Figures {
        ours: format!("{:.0}/s", per_second(&ours)),
        reference: format!("{best:.0}/s"),
        result: per_second(&ours) / best,
        unit: Unit::Times,
        bar: Bar::AtLeast(0.9),
    };
    let what = format!("{} short real texts in one call", texts.len());
    let notes = format!(
        "`SELECT embed($1::text[])` of Debian package synopses, {:.1} tokens on average, {:.1} MB of vectors, against \
         loops over batches of texts sorted by length; {ROUNDS} alternating rounds; batches of {BUDGETS:?} tokens \
         give {speeds:.0?} texts/s, of which {budget} is the reference; ours from {:.0} to {:.0} texts/s",
        tokens as f64 / texts.len() as f64,
        bytes as f64 / 1e6,
        texts.len() as f64 / quantile(&ours, 1.0) * 1e3,
        texts.len() as f64 / quantile(&ours, 0.0) * 1e3,
    );
    Ok(vec![Row::new(what, figures, notes)])
}
