//! The operator behind attention and feed-forward: sum and layer normalization.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};
use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::lanes::{load_part, splat};
use super::{input, output, share};

/// The operator's name.
pub(in crate::compute) const RESIDUAL: &str = "Residual";

/// Numbers that one thread works on at a time.
const PIECE: usize = 8192;

/// `LayerNorm(x + bias + skip)`, in one pass where ONNX Runtime makes three.
///
/// Inputs: `x` and `skip`, `[…, hidden]`, and `bias`, and the layer normalization's weight and bias, `[hidden]`. Output:
/// shaped like `x`.
pub(super) struct Residual;

impl Operator for Residual {
    type Kernel<'attr> = ResidualKernel;

    fn name(&self) -> &str {
        RESIDUAL
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [(); 5].map(|()| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<ResidualKernel> {
        let epsilon = context.get("epsilon").ok_or_else(|| ort::Error::new("epsilon is missing"))?;
        Ok(ResidualKernel { epsilon })
    }
}

pub(super) struct ResidualKernel {
    epsilon: f32,
}

impl Kernel for ResidualKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (x, skip, bias) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let (weight, shift) = (input(context, 3)?, input(context, 4)?);
        let (shape, x) = x.try_extract_tensor::<f32>()?;
        let (_, skip) = skip.try_extract_tensor::<f32>()?;
        let norm = Norm {
            bias: bias.try_extract_tensor()?.1,
            weight: weight.try_extract_tensor()?.1,
            shift: shift.try_extract_tensor()?.1,
            epsilon: self.epsilon,
        };
        let width = norm.bias.len();
        let fits = [norm.weight.len(), norm.shift.len()] == [width; 2]
            && skip.len() == x.len()
            && width > 0
            && x.len().is_multiple_of(width);
        if !fits {
            return Err(ort::Error::new(format!("a residual of {shape:?} and {width}")));
        }
        let mut out = output(context, shape.clone())?;
        let (_, out) = out.try_extract_tensor_mut::<f32>()?;
        let piece = PIECE.next_multiple_of(width);
        let pieces = out.chunks_mut(piece).zip(x.chunks(piece)).zip(skip.chunks(piece));
        let level = Level::new();
        share(context, pieces, |((out, x), skip)| {
            dispatch!(level, simd => norm.apply(simd, x, skip, out));
        })
    }
}

/// The vectors of a layer.
struct Norm<'a> {
    bias: &'a [f32],
    weight: &'a [f32],
    shift: &'a [f32],
    epsilon: f32,
}

impl Norm<'_> {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, x: &[f32], skip: &[f32], out: &mut [f32]) {
        let width = self.bias.len();
        let rows = x.chunks_exact(width).zip(skip.chunks_exact(width)).zip(out.chunks_exact_mut(width));
        for ((x, skip), out) in rows {
            for (((out, x), skip), bias) in out.iter_mut().zip(x).zip(skip).zip(self.bias) {
                *out = x + bias + skip;
            }
            let mean = total(simd, out, |values| values) / width as f32;
            out.iter_mut().for_each(|value| *value -= mean);
            let variance = total(simd, out, |values| values * values) / width as f32;
            let scale = (variance + self.epsilon).sqrt().recip();
            for ((out, weight), shift) in out.iter_mut().zip(self.weight).zip(self.shift) {
                *out = *out * scale * weight + shift;
            }
        }
    }
}

/// The sum of what `of` makes of the numbers. It makes nought of nought.
#[inline(always)]
fn total<S: Simd>(simd: S, numbers: &[f32], of: impl Fn(S::f32s) -> S::f32s) -> f32 {
    let mut sum = splat(simd, 0.0);
    for numbers in numbers.chunks(S::f32s::LEN) {
        sum += of(load_part(simd, numbers));
    }
    sum.reduce_sum()
}

#[cfg(test)]
mod tests {
    use super::super::lanes::levels;
    use super::*;

    #[test]
    fn rows_are_added_and_normalized_one_by_one() {
        for width in [1, 5, 16, 33, 384] {
            let numbers =
                |seed: f32| -> Vec<f32> { (0..3 * width).map(|i| (i as f32 + seed).sin() * 3.0).collect() };
            let (x, skip) = (numbers(1.0), numbers(2.0));
            let [bias, weight, shift] = [3.0, 4.0, 5.0].map(|seed| numbers(seed)[..width].to_vec());
            let norm = Norm { bias: &bias, weight: &weight, shift: &shift, epsilon: 1e-5 };
            let computed = levels().into_iter().map(|level| {
                let mut out = vec![9.0; 3 * width];
                dispatch!(level, simd => norm.apply(simd, &x, &skip, &mut out));
                (level, out)
            });
            for ((level, out), row) in computed.flat_map(|pair| (0..3).map(move |row| (pair.clone(), row))) {
                let sums: Vec<f64> = (0..width)
                    .map(|i| {
                        f64::from(x[row * width + i]) + f64::from(skip[row * width + i]) + f64::from(bias[i])
                    })
                    .collect();
                let mean = sums.iter().sum::<f64>() / width as f64;
                let variance = sums.iter().map(|sum| (sum - mean).powi(2)).sum::<f64>() / width as f64;
                for (i, sum) in sums.iter().enumerate() {
                    let exact =
                        (sum - mean) / (variance + 1e-5).sqrt() * f64::from(weight[i]) + f64::from(shift[i]);
                    let difference = (f64::from(out[row * width + i]) - exact).abs();
                    assert!(difference < 1e-5, "{level:?}, width {width}, row {row}: {difference}");
                }
            }
        }
    }
}
