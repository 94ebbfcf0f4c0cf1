//! Attention of the tokens of one text to each other.
//!
//! ONNX Runtime's own operators make a matrix product of each head of each text, which costs more than it computes where
//! texts are short. Here queries lie across the lanes of a vector, so that keys and values stay where they are, and the
//! softmax needs no sums across lanes.

use std::array;
use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};

use super::lanes::{Aligned, exp, load, load_part, splat, store_part};

/// Queries that are worked on together at most, in the lanes of two vectors.
const MOST_QUERIES: usize = 32;

/// The numbers of one text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    /// For each token its query, its key, and its value, of all heads each: `[tokens, 3 × hidden]`.
    pub(super) projected: &'a [f32],
    /// What is added to them, `[3 × hidden]`.
    pub(super) bias: &'a [f32],
    pub(super) heads: usize,
    pub(super) distances: Option<Distances<'a>>,
}

/// What is added to the scores: `[heads, width, width]`, by the places of query and key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distances<'a> {
    pub(super) values: &'a [f32],
    pub(super) width: usize,
}

/// Writes what the tokens `queries` get of all tokens of the text, `[queries, hidden]`.
pub(super) fn attend(level: Level, text: &Text<'_>, queries: Range<usize>, out: &mut [f32]) {
    dispatch!(level, simd => attend_with(simd, text, queries, out));
}

#[inline(always)]
fn attend_with<S: Simd>(simd: S, text: &Text<'_>, queries: Range<usize>, out: &mut [f32]) {
    const { assert!(2 * S::f32s::LEN <= MOST_QUERIES) };
    let lanes = S::f32s::LEN;
    let (row, hidden) = (text.bias.len(), text.bias.len() / 3);
    let (tokens, size) = (text.projected.len() / row, hidden / text.heads);
    let mut scratch = Scratch {
        queries: Aligned::new(2 * lanes * size),
        scores: Aligned::new(2 * lanes * tokens),
        values: Aligned::new(if size < lanes { tokens * lanes } else { 0 }),
    };
    for number in 0..text.heads {
        let parts = array::from_fn(|part| part * hidden + number * size);
        let head = Head { text, number, tokens, size, row, parts };
        if size < lanes {
            head.spread_values(lanes, scratch.values.first_mut(tokens * lanes));
        }
        let mut first = queries.start;
        for out in out.chunks_mut(2 * lanes * hidden) {
            let block = first..first + out.len() / hidden;
            first = block.end;
            match block.len() > lanes {
                true => head.attend::<S, 2>(simd, block, &mut scratch, out),
                false => head.attend::<S, 1>(simd, block, &mut scratch, out),
            }
        }
    }
}

/// One head of a text.
struct Head<'a> {
    text: &'a Text<'a>,
    number: usize,
    tokens: usize,
    /// Numbers of a query, a key, or a value.
    size: usize,
    /// Numbers of a token.
    row: usize,
    /// Where in a token's row the head's query, key and value begin.
    parts: [usize; 3],
}

struct Scratch {
    /// `[size, across]`, where `across` is how many lanes the vectors of a block have together.
    queries: Aligned,
    /// `[tokens, across]`: scores, then weights.
    scores: Aligned,
    /// `[tokens, lanes]`, where a vector has more lanes than a value has numbers.
    values: Aligned,
}

/// A number for each query of a block.
type PerQuery<S, const N: usize> = [<S as Simd>::f32s; N];

impl Head<'_> {
    /// What as many queries as `N` vectors have lanes, or fewer, get of all tokens.
    #[inline(always)]
    fn attend<S: Simd, const N: usize>(
        &self,
        simd: S,
        block: Range<usize>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let across = N * S::f32s::LEN;
        let queries = scratch.queries.first_mut(self.size * across);
        self.lay_out(block.clone(), across, queries);
        let queries = scratch.queries.first(self.size * across);
        let scores = scratch.scores.first_mut(self.tokens * across);
        match self.tokens {
            // So many sums fit into the registers.
            count @ 12.. if N == 1 => {
                in_steps::<12>(count, |key| self.score::<S, 12, N>(simd, queries, key, scores));
            }
            count @ 6.. => in_steps::<6>(count, |key| self.score::<S, 6, N>(simd, queries, key, scores)),
            count @ 3.. => in_steps::<3>(count, |key| self.score::<S, 3, N>(simd, queries, key, scores)),
            count => in_steps::<1>(count, |key| self.score::<S, 1, N>(simd, queries, key, scores)),
        }
        if let Some(distances) = self.text.distances {
            self.add_distances(&distances, block.clone(), across, scores);
        }
        let sums = weigh::<S, N>(simd, scores);
        let mut shares = [0.0; MOST_QUERIES];
        for (sum, part) in sums.into_iter().zip(shares.chunks_exact_mut(S::f32s::LEN)) {
            (splat(simd, 1.0) / sum).store_slice(part);
        }
        let values = match self.size < S::f32s::LEN {
            true => {
                Values { rows: scratch.values.first(self.tokens * S::f32s::LEN), row: S::f32s::LEN, first: 0 }
            }
            false => Values { rows: self.text.projected, row: self.row, first: self.parts[2] },
        };
        let weights = scratch.scores.first(self.tokens * across);
        let mut mixing = Mixing { head: self, values, weights, across, shares: &shares, out };
        match block.len() {
            count @ 6.. => in_steps::<6>(count, |query| mixing.mix::<S, 6>(simd, query)),
            count @ 3.. => in_steps::<3>(count, |query| mixing.mix::<S, 3>(simd, query)),
            count => in_steps::<1>(count, |query| mixing.mix::<S, 1>(simd, query)),
        }
    }

    /// The queries beside each other, with their bias, and scaled. Lanes without a query keep what they have: nobody
    /// reads what comes of it.
    #[inline(always)]
    fn lay_out(&self, block: Range<usize>, across: usize, queries: &mut [f32]) {
        let scale = (self.size as f32).sqrt().recip();
        let bias = &self.text.bias[self.parts[0]..][..self.size];
        for (lane, token) in block.enumerate() {
            let query = &self.text.projected[token * self.row + self.parts[0]..][..self.size];
            for ((row, query), bias) in queries.chunks_exact_mut(across).zip(query).zip(bias) {
                row[lane] = (query + bias) * scale;
            }
        }
    }

    /// The scores of `R` keys from `key` on. Without the keys' bias, which adds the same to all scores of a query: the
    /// softmax takes that away.
    #[inline(always)]
    fn score<S: Simd, const R: usize, const N: usize>(
        &self,
        simd: S,
        queries: &[f32],
        key: usize,
        scores: &mut [f32],
    ) {
        let across = N * S::f32s::LEN;
        let keys: [&[f32]; R] =
            array::from_fn(|r| &self.text.projected[(key + r) * self.row + self.parts[1]..][..self.size]);
        let mut sums = [[splat(simd, 0.0); N]; R];
        for (i, queries) in (0..self.size).zip(queries.chunks_exact(across)) {
            add_products(simd, &mut sums, |r| keys[r][i], load(simd, queries));
        }
        for (sums, row) in sums.iter().zip(scores[key * across..].chunks_exact_mut(across)) {
            for (sum, part) in sums.iter().zip(row.chunks_exact_mut(S::f32s::LEN)) {
                sum.store_slice(part);
            }
        }
    }

    fn add_distances(
        &self,
        distances: &Distances<'_>,
        block: Range<usize>,
        across: usize,
        scores: &mut [f32],
    ) {
        let Distances { values, width } = *distances;
        let square = &values[self.number * width * width..][..width * width];
        for (lane, query) in block.enumerate() {
            let to_keys = &square[query * width..][..width];
            for (row, distance) in scores.chunks_exact_mut(across).zip(to_keys) {
                row[lane] += distance;
            }
        }
    }

    /// Writes the values apart, so that a vector can be loaded from each.
    fn spread_values(&self, lanes: usize, values: &mut [f32]) {
        for (value, row) in values.chunks_exact_mut(lanes).zip(self.text.projected.chunks_exact(self.row)) {
            value[..self.size].copy_from_slice(&row[self.parts[2]..][..self.size]);
        }
    }
}

/// Makes weights of the scores, `[tokens, across]`, and returns each query's sum of them.
#[inline(always)]
fn weigh<S: Simd, const N: usize>(simd: S, scores: &mut [f32]) -> PerQuery<S, N> {
    let across = N * S::f32s::LEN;
    // Scores that are no numbers, or all infinite, make weights that are none: such a vector must not leave the engine.
    let mut most = [splat(simd, f32::NEG_INFINITY); N];
    for row in scores.chunks_exact(across) {
        let row = load::<S, N>(simd, row);
        for n in 0..N {
            most[n] = most[n].max(row[n]);
        }
    }
    let mut sums = [splat(simd, 0.0); N];
    for row in scores.chunks_exact_mut(across) {
        let values = load::<S, N>(simd, row);
        for (n, part) in row.chunks_exact_mut(S::f32s::LEN).enumerate() {
            let weight = exp(simd, values[n] - most[n]);
            weight.store_slice(part);
            sums[n] += weight;
        }
    }
    sums
}

/// Where a head's values are: from `first` on in each row.
#[derive(Clone, Copy)]
struct Values<'a> {
    rows: &'a [f32],
    row: usize,
    first: usize,
}

/// What is needed to mix the values for the queries of a block.
struct Mixing<'a> {
    head: &'a Head<'a>,
    values: Values<'a>,
    /// `[tokens, across]`.
    weights: &'a [f32],
    across: usize,
    /// For each query what its weights are to be multiplied by.
    shares: &'a [f32; MOST_QUERIES],
    /// `[queries, hidden]`.
    out: &'a mut [f32],
}

impl Mixing<'_> {
    /// The mixed values of `R` queries from `query` on.
    #[inline(always)]
    fn mix<S: Simd, const R: usize>(&mut self, simd: S, query: usize) {
        let (size, lanes) = (self.head.size, S::f32s::LEN);
        let mut column = 0;
        while column + 2 * lanes <= size {
            self.columns::<S, R, 2>(simd, query, column);
            column += 2 * lanes;
        }
        while column < size {
            self.columns::<S, R, 1>(simd, query, column.min(size.saturating_sub(lanes)));
            column += lanes;
        }
    }

    /// As many of their numbers as `N` vectors have lanes.
    #[inline(always)]
    fn columns<S: Simd, const R: usize, const N: usize>(&mut self, simd: S, query: usize, column: usize) {
        let Values { rows, row, first } = self.values;
        let mut sums = [[splat(simd, 0.0); N]; R];
        for (weights, values) in self.weights.chunks_exact(self.across).zip(rows.chunks_exact(row)) {
            let weights = &weights[query..][..R];
            add_products(simd, &mut sums, |r| weights[r], load(simd, &values[first + column..]));
        }
        let Head { text, size, row, parts, number, .. } = *self.head;
        let bias = &text.bias[parts[2]..][..size];
        for (r, sums) in sums.iter().enumerate() {
            let share = self.shares[query + r];
            let out = &mut self.out[(query + r) * (row / 3) + number * size..][..size];
            let places = out[column..].chunks_mut(S::f32s::LEN).zip(bias[column..].chunks(S::f32s::LEN));
            for (sum, (out, bias)) in sums.iter().zip(places) {
                store_part::<S>(sum.mul_add(share, load_part(simd, bias)), out);
            }
        }
    }
}

/// `sums += factors × vectors`, each with each.
#[inline(always)]
fn add_products<S: Simd, const R: usize, const N: usize>(
    simd: S,
    sums: &mut [[S::f32s; N]; R],
    factor: impl Fn(usize) -> f32,
    vectors: [S::f32s; N],
) {
    // Not by an array of factors, which would go through memory.
    for (r, sums) in sums.iter_mut().enumerate() {
        let factor = splat(simd, factor(r));
        for (sum, vector) in sums.iter_mut().zip(vectors) {
            *sum = factor.mul_add(vector, *sum);
        }
    }
}

/// Calls `step` with the first of each `R` of `count`, of which there are as many at least. The last ones overlap.
#[inline(always)]
fn in_steps<const R: usize>(count: usize, mut step: impl FnMut(usize)) {
    for first in (0..count).step_by(R) {
        step(first.min(count - R));
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::levels;
    use super::*;

    /// Numbers without a pattern, always the same.
    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| ((i as f32 * 12.9898 + seed).sin() * 437.585).fract() * 2.0).collect()
    }

    /// The same, as a textbook has it.
    fn attended(text: &Text<'_>, query: usize, head: usize) -> Vec<f64> {
        let (row, hidden) = (text.bias.len(), text.bias.len() / 3);
        let size = hidden / text.heads;
        let part = |token: usize, part: usize| -> Vec<f64> {
            let at = |i: usize| {
                let place = part * hidden + head * size + i;
                f64::from(text.projected[token * row + place]) + f64::from(text.bias[place])
            };
            (0..size).map(at).collect()
        };
        let score = |key: usize| -> f64 {
            let product: f64 = part(query, 0).iter().zip(part(key, 1)).map(|(query, key)| query * key).sum();
            let distance = text.distances.map_or(0.0, |Distances { values, width }| {
                f64::from(values[(head * width + query) * width + key])
            });
            product / (size as f64).sqrt() + distance
        };
        let tokens = text.projected.len() / row;
        let weights: Vec<f64> = (0..tokens).map(|key| score(key).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut mixed = vec![0.0; size];
        for (token, weight) in weights.iter().enumerate() {
            mixed.iter_mut().zip(part(token, 2)).for_each(|(mixed, value)| *mixed += value * weight / sum);
        }
        mixed
    }

    #[test]
    fn is_what_a_textbook_has() {
        // Heads as models have them, and such as fill no vector.
        for (heads, size) in [(12, 32), (2, 64), (4, 8), (2, 24), (3, 5), (2, 40)] {
            for tokens in [1, 2, 3, 5, 6, 7, 11, 12, 13, 16, 17, 31, 33, 70] {
                let hidden = heads * size;
                let (projected, bias) = (numbers(tokens * 3 * hidden, 1.0), numbers(3 * hidden, 2.0));
                let width = tokens + 3;
                let distances = numbers(heads * width * width, 3.0);
                for distances in [None, Some(Distances { values: &distances, width })] {
                    let text = Text { projected: &projected, bias: &bias, heads, distances };
                    let exact: Vec<f64> = (0..tokens)
                        .flat_map(|query| (0..heads).flat_map(move |head| attended(&text, query, head)))
                        .collect();
                    for (level, first) in
                        levels().into_iter().flat_map(|level| [(level, 0), (level, tokens / 2)])
                    {
                        let mut out = vec![9.0; (tokens - first) * hidden];
                        attend(level, &text, first..tokens, &mut out);
                        for (value, exact) in out.iter().zip(&exact[first * hidden..]) {
                            let difference = (f64::from(*value) - exact).abs();
                            assert!(
                                difference < 2e-5,
                                "{level:?}, {heads} × {size}, {tokens} tokens: {difference}",
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_query_alone_gets_the_same_to_the_last_bit() {
        let (heads, size, tokens) = (2, 24, 41);
        let hidden = heads * size;
        let (projected, bias) = (numbers(tokens * 3 * hidden, 1.0), numbers(3 * hidden, 2.0));
        let text = Text { projected: &projected, bias: &bias, heads, distances: None };
        for level in levels() {
            let mut all = vec![9.0; tokens * hidden];
            attend(level, &text, 0..tokens, &mut all);
            for (query, expected) in all.chunks_exact(hidden).enumerate() {
                let mut alone = vec![9.0; hidden];
                attend(level, &text, query..query + 1, &mut alone);
                assert_eq!(alone, expected, "{level:?}, query {query}");
            }
        }
    }

    #[test]
    fn what_is_no_number_makes_none() {
        let (size, tokens) = (16, 20);
        for (key, query) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::INFINITY, 1.0), (f32::NEG_INFINITY, 1.0)]
        {
            // All keys, or one of them, which is the last or not.
            for wrong in [0..tokens, 3..4, tokens - 1..tokens] {
                let mut projected = vec![1.0; tokens * 3 * size];
                for (token, row) in projected.chunks_exact_mut(3 * size).enumerate() {
                    row[0] = query;
                    row[size] = if wrong.contains(&token) { key } else { 1.0 };
                }
                let bias = vec![0.0; 3 * size];
                let text = Text { projected: &projected, bias: &bias, heads: 1, distances: None };
                for level in levels() {
                    let mut out = vec![9.0; tokens * size];
                    attend(level, &text, 0..tokens, &mut out);
                    // One score infinitely low is a weight of nought, as it should be.
                    let expected = key == f32::NEG_INFINITY && wrong.len() == 1;
                    assert!(
                        out.iter().all(|value| value.is_finite() == expected),
                        "{level:?}: {key} and {query} at {wrong:?}: {out:?}",
                    );
                }
            }
        }
    }

    #[test]
    fn scores_far_apart_are_no_trouble() {
        let (heads, size) = (1, 16);
        let mut projected = vec![0.0; 3 * 3 * size];
        // Query, key and value of three tokens.
        for (token, row) in projected.chunks_exact_mut(3 * size).enumerate() {
            row[0] = 1e4;
            row[size] = token as f32 * 1e4;
            row[2 * size..].fill(token as f32);
        }
        let bias = vec![0.0; 3 * size];
        let text = Text { projected: &projected, bias: &bias, heads, distances: None };
        for level in levels() {
            let mut out = vec![9.0; 3 * size];
            attend(level, &text, 0..3, &mut out);
            assert!(out.iter().all(|value| *value == 2.0), "only the last token counts: {level:?}: {out:?}");
        }
    }
}
