//! What `embed()` is compared to: the same tokenizer and the same graph, called in this process without a
//! server, a socket or a scheduler in between.

use std::cell::{Cell, RefCell};
use std::path::Path;

use vector_embed_engine::compute::{LoadedModel, Products, Runtime, load};
use vector_embed_engine::model::{Catalog, Entry};
use vector_embed_protocol::Purpose;

use crate::error::Result;
use crate::server::Settings;
use crate::stats::{median, timed};

/// The model in this process.
pub(crate) struct Bare {
    runtime: Runtime,
    entry: Entry,
    model: LoadedModel,
    products: RefCell<Products>,
    /// Milliseconds that calls of one text spent in ONNX Runtime.
    computing: Cell<f64>,
}

impl Bare {
    /// Loads the model in the directory `model`, to compute as the engine does.
    pub(crate) fn load(runtime: &Path, model: &Path, settings: Settings) -> Result<Self> {
        let missing = || format!("no model in {}", model.display());
        let name = model.file_name().ok_or_else(missing)?.to_string_lossy();
        let root = model.parent().ok_or_else(missing)?.to_owned();
        let entry = Catalog::new(vec![root]).find(&name)?;
        let runtime = Runtime::new(runtime, settings.threads);
        let model = load(&runtime, &entry, std::convert::identity)?;
        let products = Products::of(&runtime, &entry, settings.batch_tokens)?
            .ok_or("the sizes of the model's matrices are not known")?;
        Ok(Self { runtime, entry, model, products: RefCell::new(products), computing: Cell::new(0.0) })
    }

    /// Tokens a second that the model's matrix products alone reach just now, in batches without padding; the median
    /// of `runs` batches.
    pub(crate) fn limit(&self, runs: usize) -> Result<f64> {
        let mut products = self.products.borrow_mut();
        let mut times = Vec::new();
        for _ in 0..runs {
            let (time, computed) = timed(|| products.compute());
            computed?;
            times.push(time);
        }
        Ok(1e3 * products.tokens() as f64 / median(&times))
    }

    /// Threads that compute one batch.
    pub(crate) fn threads(&self) -> usize {
        self.runtime.threads()
    }

    /// The model once more, to compute with `threads` threads.
    pub(crate) fn load_again(&self, threads: usize) -> Result<LoadedModel> {
        Ok(load(&self.runtime.with_threads(threads), &self.entry, std::convert::identity)?)
    }

    /// The model once more, which writes down how long its operators took when it is dropped, to a file whose name
    /// begins with that of `profile`.
    pub(crate) fn load_profiled(&self, profile: &Path) -> Result<LoadedModel> {
        Ok(load(&self.runtime.with_profile(profile), &self.entry, std::convert::identity)?)
    }

    /// Milliseconds that calls of [`Bare::embed`] have spent in ONNX Runtime so far.
    pub(crate) fn computing_time(&self) -> f64 {
        self.computing.get()
    }

    /// The vector of one text.
    pub(crate) fn embed(&self, text: &str) -> Result<Vec<f32>> {
        let ids = self.tokenize(text)?;
        let mut vector = Vec::with_capacity(self.model.dimensions);
        let (time, result) = timed(|| self.model.embed(std::iter::once(&*ids), &mut vector));
        result?;
        self.computing.set(self.computing.get() + time);
        Ok(vector)
    }

    /// The best that a program does with many texts: tokenize all, sort by length, and compute batches of at
    /// most `budget` tokens, padding included.
    pub(crate) fn embed_sorted(&self, texts: &[String], budget: usize) -> Result<Vec<Vec<f32>>> {
        self.embed_sorted_by(&self.model, texts, budget)
    }

    /// The same by a model that was loaded once more.
    pub(crate) fn embed_sorted_by(
        &self,
        model: &LoadedModel,
        texts: &[String],
        budget: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let rows = texts.iter().map(|text| self.tokenize(text)).collect::<Result<Vec<_>>>()?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|row| std::cmp::Reverse(rows[*row].len()));
        let mut vectors = vec![Vec::new(); rows.len()];
        let mut rest = &order[..];
        let mut numbers = Vec::new();
        while let Some(longest) = rest.first() {
            let count = (budget / rows[*longest].len()).clamp(1, rest.len());
            let (batch, others) = rest.split_at(count);
            numbers.clear();
            model.embed(batch.iter().map(|row| &*rows[*row]), &mut numbers)?;
            for (row, vector) in batch.iter().zip(numbers.chunks_exact(model.dimensions)) {
                vectors[*row] = vector.to_vec();
            }
            rest = others;
        }
        Ok(vectors)
    }

    /// Tokens of all these texts.
    pub(crate) fn count_tokens(&self, texts: &[String]) -> Result<usize> {
        texts.iter().map(|text| Ok(self.tokenize(text)?.len())).sum()
    }

    /// Token ids of a text, special tokens included.
    pub(crate) fn tokenize(&self, text: &str) -> Result<Box<[u32]>> {
        let tokenizer = &self.model.tokenizer;
        Ok(tokenizer.tokenize(text, Purpose::Document, tokenizer.limit(None))?.ids)
    }
}
