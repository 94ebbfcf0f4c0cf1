//! What scripts do without the extension: sentence-transformers computes vectors, psycopg2 stores them.

use serde_json::json;

use super::{Bench, Measurement, pause, require_equal, table};
use crate::error::Result;
use crate::peer::Peer;
use crate::report::{Bar, Figures, Row};
use crate::stats::median;

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "scripts", what: "sentence-transformers and psycopg2", run };

/// What a script can do, and how it is told.
const WAYS: [(&str, &str); 4] = [
    ("row_by_row", "`encode` and INSERT of one text after the other, one COMMIT"),
    ("executemany", "one `encode` of all texts, in batches of 32 by length, and `executemany`"),
    ("execute_values", "one `encode` of all texts and `execute_values`"),
    ("copy", "one `encode` of all texts and COPY"),
];
const ROUNDS: usize = 3;
/// Texts of a round.
const TEXTS: usize = 1000;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let program = bench.arguments.optional("peers")?.join("with_psycopg2.py");
    let python = bench.arguments.optional("sentence-transformers")?;
    let model = bench.arguments.path("model");
    let mut peer = Peer::start(&python, &program, &[model.as_os_str()], None)?;
    let mut client = bench.server.connect()?;
    let mut ours = Vec::new();
    let mut theirs = WAYS.map(|_| Vec::new());
    // Each round has texts of its own; those before the first are for warming up.
    for (round, texts) in
        bench.synopses.chunks_exact(bench.count(TEXTS)).take(1 + bench.rounds(ROUNDS)).enumerate()
    {
        table::fill(&mut client, "by_update", texts)?;
        let time = table::update(&mut client, "by_update")?;
        ours.extend((round > 0).then_some(time));
        for ((way, _), times) in WAYS.into_iter().zip(&mut theirs) {
            let texts = if round > 0 { texts } else { &texts[..texts.len().div_ceil(20)] };
            peer.work("empty", json!({}))?;
            pause();
            let done = peer.work(way, json!({ "texts": texts }))?;
            times.extend((round > 0).then_some(done.time));
            require_stored(bench, &mut peer, texts)?;
        }
    }
    client.batch_execute("DROP TABLE by_update, by_script")?;
    let per_second = |times: &[f64]| 1e3 * bench.count(TEXTS) as f64 / median(times);
    let rows = WAYS.into_iter().zip(&theirs).map(|((way, how), times)| {
        let figures = Figures::rates(per_second(&ours), per_second(times), Bar::AtLeast(1.5));
        let notes = format!(
            "one UPDATE of {} Debian package synopses against {how}: {}; {} alternating rounds, each of other texts",
            bench.count(TEXTS),
            peer.version,
            ours.len()
        );
        Row::new(format!("UPDATE against sentence-transformers, {}", way.replace('_', " ")), figures, notes)
    });
    Ok(rows.collect())
}

/// Fails unless the script has stored all these texts with the vectors that they should have.
fn require_stored(bench: &Bench, peer: &mut Peer, texts: &[String]) -> Result<()> {
    let stored = peer.work("stored", json!({}))?.value;
    let count = stored["count"].as_u64();
    if count != Some(texts.len() as u64) {
        return Err(format!("the script stored {count:?} of {} rows", texts.len()).into());
    }
    let vector: Vec<f32> = serde_json::from_str(stored["vector"].as_str().unwrap_or_default())?;
    require_equal(&vector, &bench.bare.embed(&texts[0])?)
}
