//! What our operators compute with vectors of the processor, whichever it has.

use std::array;

use fearless_simd::Simd;
use fearless_simd::prelude::*;

/// Bytes of a line of the processor's cache. A vector that lies in two of them takes twice as long to load.
const LINE: usize = 64;

/// Numbers that begin with a line of the cache.
pub(super) struct Aligned {
    numbers: Vec<f32>,
    first: usize,
}

impl Aligned {
    /// So many noughts.
    pub(super) fn new(count: usize) -> Self {
        let numbers = vec![0.0; count + LINE / size_of::<f32>()];
        let first = numbers.as_ptr().align_offset(LINE);
        Self { numbers, first }
    }

    #[inline(always)]
    pub(super) fn first(&self, count: usize) -> &[f32] {
        &self.numbers[self.first..][..count]
    }

    #[inline(always)]
    pub(super) fn first_mut(&mut self, count: usize) -> &mut [f32] {
        &mut self.numbers[self.first..][..count]
    }
}

/// All lanes alike.
#[inline(always)]
pub(super) fn splat<S: Simd>(simd: S, value: f32) -> S::f32s {
    S::f32s::simd_from(simd, value)
}

/// The first `N` vectors of `numbers`.
#[inline(always)]
pub(super) fn load<S: Simd, const N: usize>(simd: S, numbers: &[f32]) -> [S::f32s; N] {
    let numbers = &numbers[..N * S::f32s::LEN];
    array::from_fn(|n| S::f32s::from_slice(simd, &numbers[n * S::f32s::LEN..][..S::f32s::LEN]))
}

/// A vector of up to as many numbers as it has lanes, and noughts.
#[inline(always)]
pub(super) fn load_part<S: Simd>(simd: S, numbers: &[f32]) -> S::f32s {
    if numbers.len() == S::f32s::LEN {
        return S::f32s::from_slice(simd, numbers);
    }
    let mut vector = splat(simd, 0.0);
    vector.as_mut_slice()[..numbers.len()].copy_from_slice(numbers);
    vector
}

/// Writes as many lanes as there is room for.
#[inline(always)]
pub(super) fn store_part<S: Simd>(vector: S::f32s, out: &mut [f32]) {
    if out.len() == S::f32s::LEN {
        vector.store_slice(out);
    } else {
        out.copy_from_slice(&vector.as_slice()[..out.len()]);
    }
}

/// e to the power of `x`, which is not above nought; by Cephes' polynomial, to within 2 units of the last place. Of what is
/// no number it makes none.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // The logarithm of 2 in two parts, so that no digit of the difference is lost.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const POLYNOMIAL: [f32; 8] =
        [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5, 1.0, 1.0];
    // Below that is nothing that a sum with 1 would notice, and from 2^-127 on no power of 2 by its exponent alone.
    // In this order: where one side is no number, x86 takes the other one, which must not make a number of it.
    let x = splat(simd, -87.0).max(x);
    let power = (x * std::f32::consts::LOG2_E).round_ties_even();
    let rest = LN_2.into_iter().fold(x, |rest, part| power.mul_add(splat(simd, -part), rest));
    let sum = polynomial(simd, &POLYNOMIAL, rest);
    let power = (power.to_int::<S::i32s>() + 127) << 23_u32;
    sum * power.bitcast::<S::f32s>()
}

/// The polynomial with these factors, that of the highest power first.
#[inline(always)]
pub(super) fn polynomial<S: Simd, const N: usize>(simd: S, factors: &[f32; N], x: S::f32s) -> S::f32s {
    let mut sum = splat(simd, factors[0]);
    for factor in &factors[1..] {
        sum = sum.mul_add(x, splat(simd, *factor));
    }
    sum
}

/// This processor's vectors, and the shorter ones that others have.
#[cfg(test)]
pub(super) fn levels() -> Vec<fearless_simd::Level> {
    use fearless_simd::Level;

    let level = Level::new();
    #[cfg(target_arch = "x86_64")]
    let others = [
        level.as_avx2().map(Level::Avx2),
        level.as_sse4_2().map(Level::Sse4_2),
        level.as_sse2().map(Level::Sse2),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let others = [];
    [Some(level)].into_iter().chain(others).flatten().collect()
}

#[cfg(test)]
mod tests {
    use fearless_simd::dispatch;

    use super::*;

    #[inline(always)]
    fn exp_of<S: Simd>(simd: S, values: &mut [f32]) {
        for values in values.chunks_exact_mut(S::f32s::LEN) {
            exp(simd, S::f32s::from_slice(simd, values)).store_slice(values);
        }
    }

    #[test]
    fn exp_comes_near() {
        let exponents: Vec<f32> = (0..16_000).map(|i| i as f32 * -0.0055).collect();
        for level in levels() {
            let mut powers = exponents.clone();
            dispatch!(level, simd => exp_of(simd, &mut powers));
            assert_eq!(powers[0], 1.0);
            for (x, power) in exponents.iter().zip(powers) {
                let exact = f64::from(x.max(-87.0)).exp();
                assert!(
                    (f64::from(power) / exact - 1.0).abs() < 1.2e-7,
                    "{level:?}, {x}: {power} for {exact}"
                );
            }
        }
    }

    #[test]
    fn exp_of_no_number_is_none() {
        for level in levels() {
            let mut powers = [0.0, f32::NAN, -f32::NAN, -1.0].repeat(8);
            dispatch!(level, simd => exp_of(simd, &mut powers));
            let are_numbers: Vec<bool> = powers.iter().map(|power| power.is_finite()).collect();
            assert_eq!(are_numbers, [true, false, false, true].repeat(8), "{level:?}");
        }
    }

    #[test]
    fn numbers_begin_with_a_line() {
        for count in [0, 1, 16, 1000] {
            let mut numbers = Aligned::new(count);
            assert!(numbers.first(count).as_ptr().addr().is_multiple_of(LINE));
            numbers.first_mut(count).fill(1.0);
            assert_eq!(numbers.first(count), vec![1.0; count]);
        }
    }
}
