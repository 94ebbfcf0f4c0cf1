//! The names of DistilBERT's tensors.

use super::names::{LayerNames, Names};

pub(super) const NAMES: Names = Names { prefix: "distilbert.", segments: false, distances: None, layer };

fn layer(layer: usize) -> LayerNames {
    let of = |name: &str| format!("transformer.layer.{layer}.{name}");
    LayerNames {
        query: of("attention.q_lin"),
        key: of("attention.k_lin"),
        value: of("attention.v_lin"),
        mixed: of("attention.out_lin"),
        mixed_norm: of("sa_layer_norm"),
        wide: of("ffn.lin1"),
        narrow: of("ffn.lin2"),
        narrow_norm: of("output_layer_norm"),
    }
}
