//! Chroma with its default embedding function.

use postgres::Client;
use serde_json::json;

use super::{Bench, Measurement, pause, require_equal, search, table};
use crate::error::Result;
use crate::peer::Peer;
use crate::report::{Bar, Figures, Row, Unit};
use crate::server::Raw;
use crate::stats::{median, quantile, timed};

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "chroma", what: "Chroma with its default embedding function", run };

const ROUNDS: usize = 3;
/// Texts of a round of ours.
const TEXTS: usize = 1000;
/// One in so many of them goes to Chroma, which takes as long for each: it pads all of them to 256 tokens.
const THEIRS: usize = 5;
/// Rounds of searches, and searches of each.
const SEARCH_ROUNDS: usize = 5;
const SEARCHES: usize = 10;
/// Rows that Chroma gets at once with vectors.
const CHUNK: usize = 1000;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let program = bench.arguments.optional("peers")?.join("with_chroma.py");
    let home = bench.arguments.optional("chroma-home")?;
    let python = bench.arguments.optional("chroma")?;
    let mut peer = Peer::start(&python, &program, &[home.join("data").as_os_str()], Some(&home))?;
    let mut client = bench.server.connect()?;
    Ok(vec![add(bench, &mut client, &mut peer)?, query(bench, &mut client, &mut peer)?])
}

fn add(bench: &Bench, client: &mut Client, peer: &mut Peer) -> Result<Row> {
    let (mut ours, mut theirs) = (vec![], vec![]);
    peer.work("add", json!({"name": "texts", "ids": ["first"], "texts": ["loads the model"]}))?;
    let count = bench.count(TEXTS);
    for (round, texts) in bench.synopses.chunks_exact(count).take(bench.rounds(ROUNDS)).enumerate() {
        table::fill(client, "by_update", texts)?;
        ours.push(1e3 * texts.len() as f64 / table::update(client, "by_update")?);
        let some = &texts[..texts.len().div_ceil(THEIRS)];
        let ids: Vec<String> = (0..some.len()).map(|number| format!("{round}-{number}")).collect();
        pause();
        let done = peer.work("add", json!({"name": "texts", "ids": ids, "texts": some}))?;
        theirs.push(1e3 * some.len() as f64 / done.time);
        let vector = peer.work("vector", json!({"name": "texts", "id": ids[0]}))?.value;
        require_equal(&serde_json::from_value::<Vec<f32>>(vector)?, &bench.bare.embed(&some[0])?)?;
    }
    client.batch_execute("DROP TABLE by_update")?;
    let figures = Figures::rates(median(&ours), median(&theirs), Bar::AtLeast(15.0));
    let notes = format!(
        "one UPDATE of {count} Debian package synopses against `collection.add` of one in {THEIRS} of them, which Chroma pads \
         to 256 tokens whatever their length: {}; {} alternating rounds, each of other texts",
        peer.version,
        ours.len()
    );
    Ok(Row::new("UPDATE against Chroma's add", figures, notes))
}

fn query(bench: &Bench, client: &mut Client, peer: &mut Peer) -> Result<Row> {
    let texts = table::corpus(bench, client)?;
    fill(client, peer, texts)?;
    let search = search::prepare(client)?;
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..bench.rounds(SEARCH_ROUNDS) {
        let questions: Vec<String> = (0..SEARCHES).map(|_| bench.queries.next()).collect();
        pause();
        for question in &questions {
            let (time, rows) = timed(|| client.query(&search, &[question]));
            rows?;
            ours.push(time);
        }
        pause();
        for question in &questions {
            theirs.push(peer.work("query", json!({"name": "corpus", "text": question, "count": 10}))?.time);
        }
    }
    let (median_ours, median_theirs) = (median(&ours), median(&theirs));
    let figures = Figures {
        result: median_ours / median_theirs,
        ..Figures::times(median_ours, median_theirs, Bar::None).in_unit(Unit::Times)
    };
    let notes = format!(
        "the ten nearest of {} texts, {} against `collection.query`, both with an HNSW index; {} searches each in \
         alternating blocks of {SEARCHES}; nine of ten within {:.2} and {:.2} ms",
        texts.len(),
        search::TOLD,
        ours.len(),
        quantile(&ours, 0.9),
        quantile(&theirs, 0.9)
    );
    Ok(Row::new("search by a text against Chroma's query", figures, notes))
}

/// Gives Chroma the corpus with its vectors: to compute them itself it would take minutes.
fn fill(client: &mut Client, peer: &mut Peer, texts: &[String]) -> Result<()> {
    let rows = client.query("SELECT embedding FROM corpus ORDER BY id", &[])?;
    let vectors =
        rows.iter().map(|row| Ok(row.try_get::<_, Raw>(0)?.vector())).collect::<Result<Vec<_>>>()?;
    for (number, (texts, vectors)) in texts.chunks(CHUNK).zip(vectors.chunks(CHUNK)).enumerate() {
        let ids: Vec<String> = (0..texts.len()).map(|place| (number * CHUNK + place).to_string()).collect();
        let rows = json!({"name": "corpus", "ids": ids, "texts": texts, "vectors": vectors});
        peer.work("add_vectors", rows)?;
    }
    Ok(())
}
