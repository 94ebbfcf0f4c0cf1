//! From token ids to vectors.

mod cuts;
mod encoder;
mod graph;
mod head;
mod limit;
mod loaded;
mod onnx;
mod onnx_files;
mod operators;
mod pool;
mod runtime;
mod settled;
mod squeeze;
mod tokens;
mod weights;
mod words;

pub use limit::Products;
pub use loaded::{Decorate, LoadedModel, load, load_with};
pub use runtime::Runtime;
pub use tokens::{TextTokenizer, Tokens};
pub(crate) use weights::read_weights;
pub use words::Words;

use crate::error::Error;

/// Token ids of several texts, padded on the right to one width.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    width: usize,
    lengths: Vec<usize>,
    ids: Vec<u32>,
}

impl Batch {
    /// Lays `rows` out beside each other; padding has id `pad`.
    pub fn new<'r>(rows: impl Iterator<Item = &'r [u32]> + Clone, pad: u32) -> Self {
        let lengths: Vec<usize> = rows.clone().map(<[u32]>::len).collect();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let mut ids = vec![pad; width * lengths.len()];
        for (target, row) in ids.chunks_exact_mut(width.max(1)).zip(rows) {
            target[..row.len()].copy_from_slice(row);
        }
        Self { width, lengths, ids }
    }

    /// Number of texts.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens of the longest text.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Tokens of each text.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The ids, row after row, `rows × width`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
}

/// Computes batches with one model's weights.
///
/// A row's result may not depend on the other rows of its batch (cosine ≥ 0.999999).
pub trait Backend: Send {
    /// Length of a vector.
    fn dimensions(&self) -> usize;

    /// The pooled, normalized vectors of `batch`, `rows × dimensions` numbers appended to `out`.
    fn embed(&mut self, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error>;
}
