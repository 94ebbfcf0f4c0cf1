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

/// Token ids of several texts.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    width: usize,
    lengths: Vec<usize>,
    ids: Vec<u32>,
    pad: u32,
}

impl Batch {
    /// The ids of `texts`; padding, where somebody needs it, has id `pad`.
    pub fn new<'t>(texts: impl Iterator<Item = &'t [u32]> + Clone, pad: u32) -> Self {
        let lengths: Vec<usize> = texts.clone().map(<[u32]>::len).collect();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let mut ids = Vec::with_capacity(lengths.iter().sum());
        texts.for_each(|text| ids.extend_from_slice(text));
        Self { width, lengths, ids, pad }
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

    /// The ids, one text behind the other.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The ids of each text.
    fn texts(&self) -> impl Iterator<Item = &[u32]> {
        let mut rest = self.ids();
        self.lengths.iter().map(move |length| {
            let (text, others) = rest.split_at(*length);
            rest = others;
            text
        })
    }

    /// The ids, each text padded on the right to the longest, `rows × width`.
    fn padded(&self) -> impl Iterator<Item = u32> {
        self.texts().flat_map(|text| {
            text.iter().copied().chain(std::iter::repeat_n(self.pad, self.width - text.len()))
        })
    }
}

/// Computes batches with one model's weights.
///
/// A row's result may not depend on the other rows of its batch (cosine ≥ 0.999999).
pub trait Backend: Send {
    /// Length of a vector.
    fn dimensions(&self) -> usize;

    /// Whether it computes padding, too.
    fn pads(&self) -> bool;

    /// The pooled, normalized vectors of `batch`, `rows × dimensions` numbers appended to `out`.
    fn embed(&mut self, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error>;
}

#[cfg(test)]
mod tests {
    use super::Batch;

    #[test]
    fn texts_lie_behind_each_other_and_are_padded_for_who_asks() {
        let batch = Batch::new([&[1_u32, 2, 3][..], &[], &[4]].into_iter(), 9);
        assert_eq!((batch.rows(), batch.width(), batch.lengths()), (3, 3, &[3, 0, 1][..]));
        assert_eq!(batch.ids(), [1, 2, 3, 4]);
        assert_eq!(batch.texts().collect::<Vec<_>>(), [&[1, 2, 3][..], &[], &[4]]);
        assert_eq!(batch.padded().collect::<Vec<_>>(), [1, 2, 3, 9, 9, 9, 4, 9, 9]);
        assert_eq!(Batch::new(std::iter::empty(), 9).padded().count(), 0);
    }
}
