//! The operators for GELU, exact and by tanh, of a product and what is added to it.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};
use ort::operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput};
use ort::value::TensorElementType;

use super::lanes::{exp, load_part, polynomial, splat, store_part};
use super::{input, output, share};

// The operators' names.
pub(in crate::compute) const GELU: &str = "Gelu";
pub(in crate::compute) const FAST_GELU: &str = "FastGelu";

/// Numbers that one thread works on at a time.
const PIECE: usize = 8192;

/// Inputs: `x`, `[…, width]`; what is added to it, `[width]`. Output: shaped like `x`.
///
/// Both kinds are `max(x, 0) - |x| × tail(|x|)`: what a GELU lacks of what it comes near far from nought.
/// Of infinite numbers they make none.
pub(super) struct Gelu(pub(super) Kind);

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// By the normal distribution.
    Exact,
    /// By tanh, which comes near to it.
    Fast,
}

impl Operator for Gelu {
    type Kernel<'attr> = GeluKernel;

    fn name(&self) -> &str {
        match self.0 {
            Kind::Exact => GELU,
            Kind::Fast => FAST_GELU,
        }
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [(); 2].map(|()| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<GeluKernel> {
        Ok(GeluKernel(self.0))
    }
}

pub(super) struct GeluKernel(Kind);

impl Kernel for GeluKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (x, bias) = (input(context, 0)?, input(context, 1)?);
        let (shape, x) = x.try_extract_tensor::<f32>()?;
        let (_, bias) = bias.try_extract_tensor::<f32>()?;
        if bias.is_empty() || !x.len().is_multiple_of(bias.len()) {
            return Err(ort::Error::new(format!("GELU of {shape:?} and {}", bias.len())));
        }
        let mut out = output(context, shape.clone())?;
        let (_, out) = out.try_extract_tensor_mut::<f32>()?;
        let piece = PIECE.next_multiple_of(bias.len());
        let (level, kind) = (Level::new(), self.0);
        share(context, out.chunks_mut(piece).zip(x.chunks(piece)), |(out, x)| {
            apply(level, kind, x, bias, out)
        })
    }
}

fn apply(level: Level, kind: Kind, x: &[f32], bias: &[f32], out: &mut [f32]) {
    match kind {
        Kind::Exact => dispatch!(level, simd => apply_with(simd, normal_tail, x, bias, out)),
        Kind::Fast => dispatch!(level, simd => apply_with(simd, tanh_tail, x, bias, out)),
    }
}

#[inline(always)]
fn apply_with<S: Simd>(
    simd: S,
    tail: impl Fn(S, S::f32s) -> S::f32s,
    x: &[f32],
    bias: &[f32],
    out: &mut [f32],
) {
    for (x, out) in x.chunks_exact(bias.len()).zip(out.chunks_exact_mut(bias.len())) {
        let lanes = S::f32s::LEN;
        for ((x, bias), out) in x.chunks(lanes).zip(bias.chunks(lanes)).zip(out.chunks_mut(lanes)) {
            let x = load_part(simd, x) + load_part(simd, bias);
            let size = x.abs();
            let value = x.max(splat(simd, 0.0)) - size * tail(simd, size);
            store_part::<S>(value, out);
        }
    }
}

/// The share of the normal distribution above `x`, which is not below nought: by Abramowitz and Stegun, 7.1.26, to within
/// 4e-7.
#[inline(always)]
fn normal_tail<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const P: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    const HALVES: [f32; 6] =
        [1.061_405_4 / 2.0, -1.453_152 / 2.0, 1.421_413_7 / 2.0, -0.284_496_74 / 2.0, 0.254_829_6 / 2.0, 0.0];
    let one = splat(simd, 1.0);
    let t = one / x.mul_add(splat(simd, P), one);
    polynomial(simd, &HALVES, t) * exp(simd, x * x * -0.5)
}

/// The same by `(1 - tanh(√(2/π) × (x + 0.044715 × x³))) / 2`.
#[inline(always)]
fn tanh_tail<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const TWICE: f32 = 2.0 * 0.797_884_6;
    let small = exp(simd, (x * x * x).mul_add(splat(simd, 0.044_715), x) * -TWICE);
    small / (small + 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::lanes::levels;
    use super::*;

    #[test]
    fn comes_near() {
        // Rows of more numbers than lanes, and fewer in the end.
        let x: Vec<f32> = (-5000..5000).map(|i| i as f32 * 0.0021).collect();
        let bias: Vec<f32> = (0..50).map(|i| i as f32 * 0.01).collect();
        let exact: [fn(f64) -> f64; 2] = [
            |x| x * 0.5 * (1.0 + libm::erf(x / 2.0_f64.sqrt())),
            |x| x * 0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        ];
        for (kind, exact) in [Kind::Exact, Kind::Fast].into_iter().zip(exact) {
            for level in levels() {
                let mut out = vec![9.0; x.len()];
                apply(level, kind, &x, &bias, &mut out);
                for ((x, bias), value) in x.iter().zip(bias.iter().cycle()).zip(&out) {
                    let exact = exact(f64::from(x + bias));
                    let difference = (f64::from(*value) - exact).abs();
                    assert!(difference < 1e-6, "{level:?}, {kind:?} of {x}: {value} for {exact}");
                }
            }
        }
    }

    #[test]
    fn far_from_nought_there_is_nothing_between() {
        for kind in [Kind::Exact, Kind::Fast] {
            let mut out = [9.0; 4];
            apply(Level::new(), kind, &[1e10, -1e10, 100.0, -100.0], &[0.0; 4], &mut out);
            let nearly = [1e10, 0.0, 100.0, 0.0];
            assert!(
                out.iter().zip(nearly).all(|(value, x): (&f32, f32)| (value - x).abs() < 1e-20),
                "{kind:?}: {out:?}"
            );
        }
    }
}
