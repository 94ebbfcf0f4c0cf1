//! Many short texts in one call against the best loop over ONNX Runtime.

use super::contest::Contest;
use super::{Bench, Measurement, pause, require_equal};
use crate::error::Result;
use crate::report::{Bar, Row};
use crate::server::Raw;
use crate::stats::timed;

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "array", what: "short real texts in one call", run };

const ROUNDS: usize = 5;
/// Texts of one call.
const TEXTS: usize = 2000;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let texts = bench.short_texts(TEXTS);
    let mut client = bench.server.connect()?;
    let embed = client.prepare("SELECT embed($1::text[])")?;
    let mut contest = Contest::new(bench, &texts[..texts.len() / 2])?;
    let mut bytes = 0;
    for _ in 0..bench.rounds(ROUNDS) {
        contest.round(texts, || {
            pause();
            let (time, row) = timed(|| client.query_one(&embed, &[&texts]));
            bytes = row?.try_get::<_, Raw>(0)?.bytes();
            Ok(time)
        })?;
    }
    let some = "SELECT vector, number FROM unnest(embed($1::text[])) WITH ORDINALITY AS t (vector, number)
                WHERE number % 100 = 1";
    for row in client.query(some, &[&texts])? {
        let text = &texts[row.try_get::<_, i64>(1)? as usize - 1];
        require_equal(&row.try_get::<_, Raw>(0)?.vector(), &bench.bare.embed(text)?)?;
    }
    let what = format!("{} short real texts in one call", texts.len());
    let how = format!(
        "`SELECT embed($1::text[])` of Debian package synopses, {:.1} MB of vectors for the client",
        bytes as f64 / 1e6
    );
    Ok(vec![contest.against_loop(&what, &how, Bar::AtLeast(0.9))])
}
