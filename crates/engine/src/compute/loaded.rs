//! A model in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::bert::{BertBackend, BertEncoder};
use super::onnx::OnnxBackend;
use super::pool::{normalize, pool};
use super::{Backend, Batch, Runtime, TextTokenizer};
use crate::error::{Error, ModelProblem};
use crate::model::{Entry, Pooling, Revision, Weights};

static NEXT_GENERATION: AtomicU64 = AtomicU64::new(1);

/// A model's tokenizer and weights.
pub struct LoadedModel {
    /// Its name.
    pub name: String,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
    /// Length of its vectors.
    pub dimensions: usize,
    /// Tells it from all other models that this process loads, also from one of the same name.
    pub generation: u64,
    /// The files that it was made of.
    pub revision: Arc<Revision>,
    backend: Mutex<Box<dyn Backend>>,
}

impl LoadedModel {
    /// Whether `entry` is the directory that was loaded, unchanged since.
    pub fn is_current(&self, entry: &Entry) -> bool {
        *self.revision.dir() == entry.dir && self.revision.is_current()
    }

    /// Computes one batch of rows of token ids; appends `rows × dimensions` numbers to `out`.
    pub fn embed<'r>(
        &self,
        rows: impl Iterator<Item = &'r [u32]> + Clone,
        out: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let batch = Batch::new(rows, self.tokenizer.pad());
        let start = out.len();
        // A panic of an earlier batch leaves buffers that the next one fills anew.
        let mut backend = self.backend.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        backend.embed(&batch, out)?;
        // pgvector refuses such numbers wherever they come in, so they must not come from here.
        let wrong = |reason: &str| Err(Error::Compute { reason: reason.to_owned() });
        match &out[start..] {
            vectors if vectors.len() != batch.rows() * self.dimensions => {
                wrong("the model gave another number of vectors")
            }
            vectors if !vectors.iter().all(|number| number.is_finite()) => {
                wrong("the model gave a number that is not finite")
            }
            _ => Ok(()),
        }
    }
}

/// Puts something around a model's backend: nothing in the product; the end-to-end tests put a backend there
/// that crashes on a certain text.
pub type Decorate = fn(Box<dyn Backend>) -> Box<dyn Backend>;

/// Reads a model's directory and makes its session.
pub fn load(runtime: &Runtime, entry: &Entry, decorate: Decorate) -> Result<LoadedModel, Error> {
    let name = &entry.name;
    let bad = |problem| Error::bad_model(name, problem);
    // Taken before the files are read: a change in between is seen as a change.
    let (revision, settings) = Revision::read(&entry.dir).map_err(bad)?;
    let tokenizer = TextTokenizer::read(name, &entry.dir, &settings).map_err(bad)?;
    let head = Head {
        pooling: settings.pooling,
        normalize: settings.normalize,
        dimensions: settings.dimensions.unwrap_or(0),
    };
    let backend: Box<dyn Backend> = match &settings.weights {
        Weights::Bert(shape) => {
            if settings.dimensions != Some(shape.hidden) {
                return Err(bad(ModelProblem::Unsupported("pooling to other dimensions".to_owned())));
            }
            if tokenizer.vocabulary() > shape.vocabulary {
                return Err(bad(ModelProblem::Invalid {
                    file: "tokenizer.json".to_owned(),
                    reason: format!(
                        "{} tokens where the model has {}",
                        tokenizer.vocabulary(),
                        shape.vocabulary
                    ),
                }));
            }
            let encoder = BertEncoder::load(runtime, &entry.dir, shape, name)?;
            Box::new(BertBackend { encoder, head })
        }
        Weights::Onnx(file) => Box::new(OnnxBackend::load(runtime, &entry.dir, file, head, name)?),
    };
    Ok(LoadedModel {
        name: name.clone(),
        tokenizer,
        dimensions: backend.dimensions(),
        generation: NEXT_GENERATION.fetch_add(1, Ordering::Relaxed),
        revision: Arc::new(revision),
        backend: Mutex::new(decorate(backend)),
    })
}

/// What turns token vectors into a text's vector.
pub(super) struct Head {
    pub(super) pooling: Pooling,
    pub(super) normalize: bool,
    pub(super) dimensions: usize,
}

impl Head {
    /// Pools `rows × width × dimensions` numbers of token vectors.
    pub(super) fn apply(&self, batch: &Batch, tokens: &[f32], out: &mut Vec<f32>) {
        let dimensions = self.dimensions;
        let start = out.len();
        out.resize(start + batch.rows() * dimensions, 0.0);
        let rows = tokens.chunks_exact(batch.width() * dimensions).zip(batch.lengths());
        for (vector, (row, length)) in out[start..].chunks_exact_mut(dimensions).zip(rows) {
            pool(self.pooling, &row[..length * dimensions], vector);
            if self.normalize {
                normalize(vector);
            }
        }
    }

    /// Takes vectors over that the graph has pooled.
    pub(super) fn apply_to_pooled(&self, vectors: &[f32], out: &mut Vec<f32>) {
        let start = out.len();
        out.extend_from_slice(vectors);
        if self.normalize {
            out[start..].chunks_exact_mut(self.dimensions).for_each(normalize);
        }
    }
}
