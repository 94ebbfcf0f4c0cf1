//! A model in memory.

use std::sync::{Arc, Mutex};

use super::encoder::EncoderBackend;
use super::head::Head;
use super::onnx::OnnxBackend;
use super::{Backend, Batch, Runtime, TextTokenizer};
use crate::error::{Error, ModelProblem};
use crate::model::{Entry, Precision, Revision, Weights};

/// A model's tokenizer and weights.
pub struct LoadedModel {
    /// Its name.
    pub name: String,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
    /// Length of its vectors.
    pub dimensions: usize,
    /// Whether texts of a batch are padded to the longest of them.
    pub pads: bool,
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
    load_with(runtime, entry, None, decorate)
}

/// The same with another precision than the directory asks for, to compare the two.
pub fn load_with(
    runtime: &Runtime,
    entry: &Entry,
    precision: Option<Precision>,
    decorate: Decorate,
) -> Result<LoadedModel, Error> {
    let name = &entry.name;
    let bad = |problem| Error::bad_model(name, problem);
    // Taken before the files are read: a change in between is seen as a change.
    let (revision, settings) = Revision::read(&entry.dir).map_err(bad)?;
    let tokenizer = TextTokenizer::read(name, &entry.dir, &settings).map_err(bad)?;
    let mut head = Head::load(&entry.dir, &settings).map_err(bad)?;
    let precision = precision.unwrap_or(settings.precision);
    let backend: Box<dyn Backend> = match &settings.weights {
        Weights::Safetensors(shape) => {
            if head.token_dimensions() != shape.hidden {
                return Err(bad(ModelProblem::Unsupported("pooling of other dimensions".to_owned())));
            }
            head.set_token_dimensions(shape.hidden).map_err(bad)?;
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
            Box::new(EncoderBackend::load(runtime, &entry.dir, shape, precision, head, name)?)
        }
        Weights::Onnx(file) => Box::new(OnnxBackend::load(runtime, &entry.dir, file, head, name)?),
    };
    Ok(LoadedModel {
        name: name.clone(),
        tokenizer,
        dimensions: backend.dimensions(),
        pads: backend.pads(),
        revision: Arc::new(revision),
        backend: Mutex::new(decorate(backend)),
    })
}
