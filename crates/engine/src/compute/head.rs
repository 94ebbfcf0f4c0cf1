//! What turns the vectors of a text's tokens into the text's vector: pooling, dense layers, normalization.

use super::graph::transposed;
use super::pool::{normalize, pool};
use super::weights::Tensors;
use crate::error::ModelProblem;
use crate::model::{DenseActivation, DenseLayer, ModelDir, ModelSettings, Pooling, Step};

/// The end of a model.
pub(super) struct Head {
    /// Length of a token's vector.
    token_dimensions: usize,
    pooling: Vec<Pooling>,
    steps: Vec<Part>,
    scratch: Vec<f32>,
}

enum Part {
    Normalize,
    Dense(Dense),
}

/// `activation(W × x + b)`.
struct Dense {
    from: usize,
    to: usize,
    /// `[from, to]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    activation: DenseActivation,
}

impl Head {
    /// Reads the dense layers. Token vectors whose length the directory does not tell are to be given one, see
    /// [`Self::set_token_dimensions`].
    pub(super) fn load(dir: &ModelDir, settings: &ModelSettings) -> Result<Self, ModelProblem> {
        let part = |step: &Step| match step {
            Step::Normalize => Ok(Part::Normalize),
            Step::Dense(layer) => Dense::load(dir, layer).map(Part::Dense),
        };
        Ok(Self {
            token_dimensions: settings.token_dimensions.unwrap_or(0),
            pooling: settings.pooling.clone(),
            steps: settings.steps.iter().map(part).collect::<Result<_, _>>()?,
            scratch: Vec::new(),
        })
    }

    /// Length of a token's vector; 0 if it is not known.
    pub(super) fn token_dimensions(&self) -> usize {
        self.token_dimensions
    }

    /// The encoder tells the length of its vectors.
    pub(super) fn set_token_dimensions(&mut self, dimensions: usize) -> Result<(), ModelProblem> {
        self.token_dimensions = dimensions;
        let given = self.pooled_dimensions();
        let taken = self.steps.iter().find_map(|part| match part {
            Part::Dense(dense) => Some(dense.from),
            Part::Normalize => None,
        });
        match taken {
            Some(taken) if taken != given => {
                let what = format!("a dense layer that takes {taken} numbers where {given} come in");
                Err(ModelProblem::Unsupported(what))
            }
            _ => Ok(()),
        }
    }

    /// Whether there are dense layers.
    pub(super) fn has_dense(&self) -> bool {
        self.steps.iter().any(|part| matches!(part, Part::Dense(_)))
    }

    /// The graph has done all but the normalization already.
    pub(super) fn keep_normalization_only(&mut self, dimensions: usize) {
        self.token_dimensions = dimensions;
        self.pooling.truncate(1);
        let normalizes = matches!(self.steps.last(), Some(Part::Normalize));
        self.steps.clear();
        if normalizes {
            self.steps.push(Part::Normalize);
        }
    }

    fn pooled_dimensions(&self) -> usize {
        self.token_dimensions.saturating_mul(self.pooling.len())
    }

    /// Length of a text's vector.
    pub(super) fn dimensions(&self) -> usize {
        let last = self.steps.iter().rev().find_map(|part| match part {
            Part::Dense(dense) => Some(dense.to),
            Part::Normalize => None,
        });
        last.unwrap_or_else(|| self.pooled_dimensions())
    }

    /// Appends the vectors of the texts whose tokens have these vectors. A text of fewer than `width` tokens has padding
    /// behind it up to there.
    pub(super) fn apply(&mut self, lengths: &[usize], width: usize, tokens: &[f32], out: &mut Vec<f32>) {
        let dimensions = self.token_dimensions;
        out.reserve(lengths.len() * self.dimensions());
        let mut vector = std::mem::take(&mut self.scratch);
        let mut first = 0;
        for length in lengths {
            vector.clear();
            vector.resize(self.pooled_dimensions(), 0.0);
            let tokens = &tokens[first * dimensions..][..length * dimensions];
            for (pooling, part) in self.pooling.iter().zip(vector.chunks_exact_mut(dimensions)) {
                pool(*pooling, tokens, part);
            }
            first += length.max(&width);
            self.finish(&mut vector);
            out.extend_from_slice(&vector);
        }
        self.scratch = vector;
    }

    /// Takes vectors over that the graph has pooled.
    pub(super) fn apply_to_pooled(&mut self, vectors: &[f32], out: &mut Vec<f32>) {
        let mut vector = std::mem::take(&mut self.scratch);
        for pooled in vectors.chunks_exact(self.pooled_dimensions()) {
            vector.clear();
            vector.extend_from_slice(pooled);
            self.finish(&mut vector);
            out.extend_from_slice(&vector);
        }
        self.scratch = vector;
    }

    fn finish(&self, vector: &mut Vec<f32>) {
        for part in &self.steps {
            match part {
                Part::Normalize => normalize(vector),
                Part::Dense(dense) => *vector = dense.apply(vector),
            }
        }
    }
}

impl Dense {
    fn load(dir: &ModelDir, layer: &DenseLayer) -> Result<Self, ModelProblem> {
        let DenseLayer { ref file, from, to, bias, activation } = *layer;
        let bytes = dir.read_weights(file)?;
        let tensors = Tensors::parse(&bytes, file)?;
        let matrix = tensors.exactly("linear.weight", [to, from])?;
        let bias = if bias { tensors.exactly("linear.bias", [to])? } else { vec![0.0; to] };
        let weights = transposed(&matrix, [to, from]);
        Ok(Self { from, to, weights, bias, activation })
    }

    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut out = self.bias.clone();
        for (value, row) in x.iter().zip(self.weights.chunks_exact(self.to)) {
            out.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
        }
        out.iter_mut().for_each(|value| *value = activate(self.activation, *value));
        out
    }
}

fn activate(activation: DenseActivation, x: f32) -> f32 {
    match activation {
        DenseActivation::Identity => x,
        DenseActivation::Tanh => x.tanh(),
        DenseActivation::Relu => x.max(0.0),
        DenseActivation::Gelu => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
        DenseActivation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        DenseActivation::Silu => x / (1.0 + (-x).exp()),
    }
}
