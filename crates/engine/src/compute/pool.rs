//! Pooling and normalization, as sentence-transformers defines them.

use crate::model::Pooling;

/// Sums below this are taken for it, so that nothing is divided by zero (as in sentence-transformers).
const SMALLEST_SUM: f32 = 1e-9;
/// The same for norms, as in torch's `normalize`.
const SMALLEST_NORM: f32 = 1e-12;

/// Pools the vectors of one text's tokens, `tokens.len() = length × out.len()` and `length ≥ 1`, into `out`.
pub(super) fn pool(pooling: Pooling, tokens: &[f32], out: &mut [f32]) {
    let dimensions = out.len();
    let length = tokens.len() / dimensions;
    match pooling {
        Pooling::Mean => {
            sum(tokens, out);
            scale(out, 1.0 / (length as f32).max(SMALLEST_SUM));
        }
        Pooling::MeanSqrtLen => {
            sum(tokens, out);
            scale(out, 1.0 / (length as f32).sqrt());
        }
        Pooling::WeightedMean => {
            out.fill(0.0);
            for (token, weight) in tokens.chunks_exact(dimensions).zip(1_u32..) {
                out.iter_mut().zip(token).for_each(|(sum, value)| *sum += weight as f32 * value);
            }
            scale(out, 2.0 / (length as f32 * (length as f32 + 1.0)));
        }
        Pooling::Cls => out.copy_from_slice(&tokens[..dimensions]),
        Pooling::LastToken => out.copy_from_slice(&tokens[(length - 1) * dimensions..]),
        Pooling::Max => {
            out.copy_from_slice(&tokens[..dimensions]);
            for token in tokens.chunks_exact(dimensions).skip(1) {
                out.iter_mut().zip(token).for_each(|(most, value)| *most = most.max(*value));
            }
        }
    }
}

/// Brings a vector to unit length.
pub(super) fn normalize(vector: &mut [f32]) {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    scale(vector, 1.0 / norm.max(SMALLEST_NORM));
}

fn sum(tokens: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for token in tokens.chunks_exact(out.len()) {
        out.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
    }
}

fn scale(vector: &mut [f32], factor: f32) {
    vector.iter_mut().for_each(|value| *value *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [f32; 6] = [1.0, -2.0, 3.0, 5.0, 2.0, 0.0];

    fn pooled(pooling: Pooling) -> [f32; 2] {
        let mut out = [9.0; 2];
        pool(pooling, &TOKENS, &mut out);
        out
    }

    #[test]
    fn each_mode_pools_as_its_name_says() {
        assert_eq!(pooled(Pooling::Mean), [2.0, 1.0]);
        assert_eq!(pooled(Pooling::Cls), [1.0, -2.0]);
        assert_eq!(pooled(Pooling::Max), [3.0, 5.0]);
        assert_eq!(pooled(Pooling::LastToken), [2.0, 0.0]);
        assert!(
            pooled(Pooling::WeightedMean)
                .iter()
                .zip([13.0 / 6.0, 8.0 / 6.0])
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
        let root = 3.0_f32.sqrt();
        assert_eq!(pooled(Pooling::MeanSqrtLen), [6.0 * (1.0 / root), 3.0 * (1.0 / root)]);
    }

    #[test]
    fn a_zero_vector_stays_zero() {
        let mut zero = [0.0, 0.0];
        normalize(&mut zero);
        assert_eq!(zero, [0.0, 0.0]);
        let mut other = [3.0, 4.0];
        normalize(&mut other);
        assert!((other[0] - 0.6).abs() < 1e-6 && (other[1] - 0.8).abs() < 1e-6);
    }
}
