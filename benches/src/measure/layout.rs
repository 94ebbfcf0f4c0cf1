//! Whether a crowd is better served by one batch at a time on all processors, as the engine does it, or by one batch on
//! each processor at a time.
//!
//! Both sides are in this process and compute the same texts: one session with a thread for each processor, against as
//! many sessions with one thread each, which take batches from one list.

use std::sync::Mutex;
use std::thread;

use vector_embed_engine::compute::LoadedModel;

use super::{Bench, Measurement, pause};
use crate::error::Result;
use crate::report::{Bar, Figures, Row};
use crate::stats::{median, quantile, timed};

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "layout", what: "one batch on each processor", run };

const ROUNDS: usize = 7;
/// Tokens of a long text.
const LONG: usize = 250;
/// Tokens of a batch, as `vector_embed.batch_tokens` has it by default.
const BUDGET: usize = 512;

type Texts = Vec<Box<[u32]>>;

/// Texts, and how many of them share a batch on either side.
#[derive(Clone)]
struct Work {
    what: String,
    texts: Texts,
    shared: usize,
    apart: usize,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let processors = bench.bare.threads();
    let all = [bench.bare.load_again(processors)?];
    let each = (0..processors).map(|_| bench.bare.load_again(1)).collect::<Result<Vec<_>>>()?;
    work(bench, processors)?.iter().map(|work| compare(bench, work, &all, &each)).collect()
}

fn work(bench: &Bench, processors: usize) -> Result<Vec<Work>> {
    let queries = (0..bench.count(256))
        .map(|_| bench.bare.tokenize(&bench.queries.next()))
        .collect::<Result<Texts>>()?;
    let mut synopses = bench
        .synopses
        .iter()
        .take(bench.count(1024))
        .map(|text| bench.bare.tokenize(text))
        .collect::<Result<Texts>>()?;
    synopses.sort_by_key(|text| text.len());
    let mut long = Texts::new();
    let mut words = bench.synopses.iter().cycle();
    while long.len() < bench.count(32) {
        let mut text = String::new();
        while bench.bare.tokenize(&text)?.len() < LONG {
            text.push_str(words.next().ok_or("no texts")?);
            text.push(' ');
        }
        long.push(bench.bare.tokenize(&text)?[..LONG].into());
    }
    // Half of the clients wait for either batch where two are computed at once.
    let clients = |count: usize| Work {
        what: format!("single texts of {count} clients"),
        texts: queries.clone(),
        shared: count,
        apart: (count / processors).max(1),
    };
    let bulk = |what: &str, texts: Texts, length: usize| Work {
        what: what.to_owned(),
        texts,
        shared: BUDGET / length,
        apart: BUDGET / length,
    };
    let mut work = [processors, 8, 32].map(clients).to_vec();
    work.push(bulk("short texts", synopses, 12));
    work.push(bulk("texts of 250 tokens", long, LONG));
    Ok(work)
}

fn compare(bench: &Bench, work: &Work, all: &[LoadedModel], each: &[LoadedModel]) -> Result<Row> {
    let (mut together, mut apart, mut ratios) = (vec![], vec![], vec![]);
    let rounds = bench.rounds(ROUNDS);
    for round in 0..=rounds {
        pause();
        let (one, result) = timed(|| compute(all, &work.texts, work.shared));
        result?;
        pause();
        let (many, result) = timed(|| compute(each, &work.texts, work.apart));
        result?;
        // The first round takes the memory.
        if round > 0 {
            together.push(one);
            apart.push(many);
            ratios.push(one / many);
        }
    }
    let per_second = |times: &Vec<f64>| work.texts.len() as f64 / median(times) * 1e3;
    let figures = Figures {
        result: median(&ratios),
        ..Figures::rates(per_second(&apart), per_second(&together), Bar::None)
    };
    let notes = format!(
        "{} sessions with one thread each, {} texts in a batch, against one session with {} threads, {} texts in a batch; \
         {rounds} alternating rounds of {} texts; ratios from {:.2} to {:.2} (quartiles)",
        each.len(),
        work.apart,
        each.len(),
        work.shared,
        work.texts.len(),
        quantile(&ratios, 0.25),
        quantile(&ratios, 0.75),
    );
    Ok(Row::new(format!("one batch on each processor: {}", work.what), figures, notes))
}

/// Computes all texts, `rows` in a batch, each batch by the model that is free.
fn compute(models: &[LoadedModel], texts: &[Box<[u32]>], rows: usize) -> Result<()> {
    let batches = Mutex::new(texts.chunks(rows.max(1)));
    let run = |model: &LoadedModel| -> Result<()> {
        let mut vectors = Vec::new();
        loop {
            let batch = batches.lock().map_err(|_| "a thread panicked")?.next();
            let Some(batch) = batch else { return Ok(()) };
            vectors.clear();
            model.embed(batch.iter().map(|text| &**text), &mut vectors)?;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = models.iter().map(|model| scope.spawn(|| run(model))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())))
    })
}
