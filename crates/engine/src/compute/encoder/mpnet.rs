//! MPNet: the names of its tensors, and its bias for the distance of two tokens.

use super::names::{LayerNames, Names};
use crate::model::DISTANCE_BUCKETS;

pub(super) const NAMES: Names = Names {
    prefix: "mpnet.",
    segments: false,
    distances: Some("encoder.relative_attention_bias.weight"),
    layer,
};

fn layer(layer: usize) -> LayerNames {
    let of = |name: &str| format!("encoder.layer.{layer}.{name}");
    LayerNames {
        query: of("attention.attn.q"),
        key: of("attention.attn.k"),
        value: of("attention.attn.v"),
        mixed: of("attention.attn.o"),
        mixed_norm: of("attention.LayerNorm"),
        wide: of("intermediate.dense"),
        narrow: of("output.dense"),
        narrow_norm: of("output.LayerNorm"),
    }
}

/// What each head adds to the attention that one token pays another, by how far that one is away.
pub(super) struct DistanceBias {
    heads: usize,
    /// Tokens of the longest text.
    most: usize,
    /// For each head, the bias for the distances from `1 - most` to `most - 1`.
    table: Vec<f32>,
}

impl DistanceBias {
    /// From the weights, `[buckets, heads]`, for texts of at most `most` tokens.
    pub(super) fn new(weights: &[f32], heads: usize, most: usize) -> Self {
        let most = most.max(1);
        let distances = 1 - most as i64..most as i64;
        let buckets: Vec<usize> = distances.map(bucket).collect();
        let table =
            (0..heads).flat_map(|head| buckets.iter().map(move |bucket| weights[bucket * heads + head]));
        Self { heads, most, table: table.collect() }
    }

    /// Writes the bias for texts of `width` tokens, `[heads, width, width]`, to `out`.
    pub(super) fn fill(&self, width: usize, out: &mut Vec<f32>) {
        out.clear();
        for biases in self.table.chunks_exact(2 * self.most - 1) {
            for from in 0..width {
                let start = self.most - 1 - from;
                out.extend_from_slice(&biases[start..start + width]);
            }
        }
    }

    pub(super) fn heads(&self) -> usize {
        self.heads
    }
}

/// The bucket of a distance: half of them for each direction, of these half for one distance each, the others for
/// ranges that grow to 128. In the precision and order of MPNet's code, which decide at the borders.
fn bucket(distance: i64) -> usize {
    const FARTHEST: f64 = 128.0;
    let half = DISTANCE_BUCKETS / 2;
    let exact = half / 2;
    let away = distance.unsigned_abs() as usize;
    let of_direction = if away < exact {
        away
    } else {
        let part = (away as f32 / exact as f32).ln() / (FARTHEST / exact as f64).ln() as f32;
        (exact + (part * (half - exact) as f32) as usize).min(half - 1)
    };
    if distance > 0 { half + of_direction } else { of_direction }
}

#[cfg(test)]
mod tests {
    use super::{DistanceBias, bucket};

    /// Distances at which torch's own function goes over to the next bucket.
    #[test]
    fn buckets_begin_where_those_of_torch_do() {
        let borders = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        for distance in 0..600 {
            let expected = borders.iter().filter(|border| **border <= distance).count();
            assert_eq!(bucket(-distance), expected, "{distance}");
            assert_eq!(bucket(distance), if distance == 0 { 0 } else { 16 + expected }, "{distance}");
        }
    }

    #[test]
    fn the_bias_is_that_of_the_distance() {
        let weights: Vec<f32> = (0..64).map(|number| number as f32).collect();
        let bias = DistanceBias::new(&weights, 2, 40);
        let mut out = Vec::new();
        for width in [1, 3, 40] {
            bias.fill(width, &mut out);
            assert_eq!(out.len(), 2 * width * width);
            for (place, value) in out.iter().enumerate() {
                let (head, from, to) = (place / (width * width), place / width % width, place % width);
                assert_eq!(*value, weights[bucket(to as i64 - from as i64) * 2 + head]);
            }
        }
    }
}
