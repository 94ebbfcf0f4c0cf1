//! Many texts: ours against the best loop over ONNX Runtime, and against what its matrix products alone cost.

use super::{Bench, pause};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::stats::{median, quantile, timed};

/// Tokens of a batch, padding included, of the loops of which the best is the reference.
const BUDGETS: [usize; 3] = [256, 512, 1024];
/// How often each is tried.
const TRIES: usize = 3;
/// Computations of one look at the limit.
const LIMIT_RUNS: usize = 15;

/// Rounds in which the sides take turns, each on the same texts.
pub(super) struct Contest<'b> {
    bench: &'b Bench,
    /// Texts a second that each of [`BUDGETS`] gives.
    tried: [f64; BUDGETS.len()],
    budget: usize,
    rounds: Vec<Round>,
}

struct Round {
    texts: f64,
    tokens: f64,
    /// Milliseconds.
    ours: f64,
    /// Milliseconds.
    bare: f64,
    /// Tokens a second.
    limit: f64,
}

impl<'b> Contest<'b> {
    /// Finds out with the texts of `sample` which budget is best.
    pub(super) fn new(bench: &'b Bench, sample: &[String]) -> Result<Self> {
        let mut times = BUDGETS.map(|_| Vec::new());
        for _ in 0..bench.rounds(TRIES) {
            for (budget, times) in BUDGETS.into_iter().zip(&mut times) {
                times.push(sorted_loop(bench, sample, budget)?);
            }
        }
        let tried = times.map(|times| 1e3 * sample.len() as f64 / median(&times));
        let best = BUDGETS.into_iter().zip(tried).max_by(|(_, a), (_, b)| a.total_cmp(b));
        let (budget, _) = best.ok_or("no budget")?;
        Ok(Self { bench, tried, budget, rounds: Vec::new() })
    }

    /// One round. `ours` embeds the texts and says how many milliseconds it took.
    pub(super) fn round(&mut self, texts: &[String], ours: impl FnOnce() -> Result<f64>) -> Result<()> {
        let ours = ours()?;
        let bare = sorted_loop(self.bench, texts, self.budget)?;
        pause();
        let limit = self.bench.bare.limit(self.bench.rounds(LIMIT_RUNS))?;
        let tokens = self.bench.bare.count_tokens(texts)? as f64;
        self.rounds.push(Round { texts: texts.len() as f64, tokens, ours, bare, limit });
        Ok(())
    }

    /// Ours against the loop.
    pub(super) fn against_loop(&self, what: &str, how: &str, bar: Bar) -> Row {
        let ours = self.each(|round| round.texts / round.ours);
        let figures =
            Figures::rates(median(&ours), median(&self.each(|round| round.texts / round.bare)), bar);
        let (texts, tokens) = self
            .rounds
            .iter()
            .fold((0.0, 0.0), |(texts, tokens), round| (texts + round.texts, tokens + round.tokens));
        let notes = format!(
            "{how}, {:.1} tokens on average, against a loop over batches of texts sorted by length that keeps its \
             vectors in memory; {} alternating rounds; before them batches of {BUDGETS:?} tokens gave {:.0?} texts/s, \
             of which {} is the reference; ours from {:.0} to {:.0} texts/s",
            tokens / texts,
            self.rounds.len(),
            self.tried,
            self.budget,
            quantile(&ours, 0.0),
            quantile(&ours, 1.0),
        );
        Row::new(what, figures, notes)
    }

    /// Ours against the limit.
    pub(super) fn against_limit(&self, what: &str, bar: Bar) -> Row {
        let tokens = |time: fn(&Round) -> f64| median(&self.each(|round| round.tokens / time(round)));
        let ours = tokens(|round| round.ours);
        let limit = median(&self.rounds.iter().map(|round| round.limit).collect::<Vec<_>>());
        let figures = Figures::rates(ours, limit, bar).in_unit(Unit::Share);
        let notes = format!(
            "tokens a second without padding, against the model's matrix products alone in batches of as many tokens as \
             the engine's, measured in each round by the same ONNX Runtime; the loop reaches {:.0} %",
            100.0 * tokens(|round| round.bare) / limit
        );
        Row::new(format!("{what}, of the limit"), figures, notes)
    }

    /// `rate`, which is by the millisecond, of each round by the second.
    fn each(&self, rate: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(|round| 1e3 * rate(round)).collect()
    }
}

/// Milliseconds of the loop, after a pause.
fn sorted_loop(bench: &Bench, texts: &[String], budget: usize) -> Result<f64> {
    pause();
    let (time, vectors) = timed(|| bench.bare.embed_sorted(texts, budget));
    vectors.map(|_| time)
}
