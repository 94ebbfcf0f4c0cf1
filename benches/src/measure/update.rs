//! Rows embedded by one UPDATE against the best loop over ONNX Runtime.

use super::{BUDGETS, Bench, Measurement, pause, require_equal};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::server::Raw;
use crate::stats::{median, quantile, timed};

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "update", what: "short real texts by one UPDATE", run };

const ROUNDS: usize = 3;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let texts = &bench.synopses;
    let mut client = bench.server.connect()?;
    client.batch_execute("CREATE TABLE updated (id bigint PRIMARY KEY, body text, embedding vector(384))")?;
    let fill =
        "INSERT INTO updated SELECT id, body, NULL FROM unnest($1::text[]) WITH ORDINALITY AS t (body, id)";

    let mut ours = Vec::new();
    let mut loops = BUDGETS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        client.batch_execute("TRUNCATE updated")?;
        client.execute(fill, &[texts])?;
        client.batch_execute("VACUUM ANALYZE updated")?;
        client.batch_execute("CHECKPOINT")?;
        pause();
        let (time, updated) = timed(|| client.execute("UPDATE updated SET embedding = embed(body)", &[]));
        updated?;
        ours.push(time);
        for (budget, times) in BUDGETS.into_iter().zip(&mut loops) {
            pause();
            let (time, vectors) = timed(|| bench.bare.embed_sorted(texts, budget));
            vectors?;
            times.push(time);
        }
    }
    for (place, vector) in bench.bare.embed_sorted(texts, BUDGETS[0])?.iter().enumerate().step_by(500) {
        let row = client.query_one("SELECT embedding FROM updated WHERE id = $1", &[&(place as i64 + 1)])?;
        require_equal(&row.try_get::<_, Raw>(0)?.vector(), vector)?;
    }
    client.batch_execute("DROP TABLE updated")?;

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
    let notes = format!(
        "`UPDATE … SET embedding = embed(body)` of Debian package synopses in one statement, written to disk, against \
         loops over batches of texts sorted by length that keep their vectors in memory; {ROUNDS} alternating rounds; \
         batches of {BUDGETS:?} tokens give {speeds:.0?} texts/s, of which {budget} is the reference; ours from {:.0} \
         to {:.0} texts/s",
        texts.len() as f64 / quantile(&ours, 1.0) * 1e3,
        texts.len() as f64 / quantile(&ours, 0.0) * 1e3,
    );
    Ok(vec![Row::new(format!("{} short real texts by one UPDATE", texts.len()), figures, notes)])
}
