//! Where the tensors of an encoder are.

use super::{bert, distilbert, mpnet, roberta};
use crate::model::Architecture;

/// Words, positions and the first normalization, which have the same names everywhere.
pub(super) const WORDS: &str = "embeddings.word_embeddings.weight";
pub(super) const POSITIONS: &str = "embeddings.position_embeddings.weight";
pub(super) const SEGMENTS: &str = "embeddings.token_type_embeddings.weight";
pub(super) const EMBEDDINGS_NORM: &str = "embeddings.LayerNorm";

/// What the encoders of one architecture have.
pub(super) struct Names {
    /// What stands in front of all names of a model that was saved with a head.
    pub(super) prefix: &'static str,
    /// Whether there are embeddings of segments.
    pub(super) segments: bool,
    /// The bias for the distance of tokens.
    pub(super) distances: Option<&'static str>,
    /// The names of a layer.
    pub(super) layer: fn(usize) -> LayerNames,
}

/// The parts of a layer, each with a `.weight` and a `.bias`.
pub(super) struct LayerNames {
    pub(super) query: String,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) mixed: String,
    pub(super) mixed_norm: String,
    pub(super) wide: String,
    pub(super) narrow: String,
    pub(super) narrow_norm: String,
}

impl Names {
    pub(super) fn of(architecture: Architecture) -> &'static Self {
        match architecture {
            Architecture::Bert => &bert::NAMES,
            Architecture::Roberta => &roberta::NAMES,
            Architecture::DistilBert => &distilbert::NAMES,
            Architecture::Mpnet => &mpnet::NAMES,
        }
    }
}
