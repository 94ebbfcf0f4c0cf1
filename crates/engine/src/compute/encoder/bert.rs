//! The names of BERT's tensors.

use super::names::{LayerNames, Names};

pub(super) const NAMES: Names = Names { prefix: "bert.", segments: true, distances: None, layer };

/// Those of one layer, which RoBERTa has, too.
pub(super) fn layer(layer: usize) -> LayerNames {
    let of = |name: &str| format!("encoder.layer.{layer}.{name}");
    LayerNames {
        query: of("attention.self.query"),
        key: of("attention.self.key"),
        value: of("attention.self.value"),
        mixed: of("attention.output.dense"),
        mixed_norm: of("attention.output.LayerNorm"),
        wide: of("intermediate.dense"),
        narrow: of("output.dense"),
        narrow_norm: of("output.LayerNorm"),
    }
}
