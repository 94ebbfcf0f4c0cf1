//! The graph of an encoder: embeddings, products, and our operators between them; for OpenVINO plain ones (`plain`).

use ort::editor::Model;
use ort::value::{Outlet, TensorElementType};

use super::names::{EMBEDDINGS_NORM, LayerNames, Names, POSITIONS, SEGMENTS, WORDS};
use super::product::Range;
use super::{DISTANCES, IDS, LENGTHS, MASK, NUMBERS, TOKENS};
use crate::compute::graph::{
    FUSED, GraphBuilder, ONNX, OPSET, OPSET_WITH_GELU, float_attribute, integer_attribute, outlet,
};
use crate::compute::operators::{ATTENTION, FAST_GELU, GELU, OURS, RESIDUAL};
use crate::compute::weights::Tensors;
use crate::error::ModelProblem;
use crate::model::{Activation, EncoderShape, Precision};

pub(super) fn build(
    tensors: &Tensors<'_>,
    shape: &EncoderShape,
    names: &Names,
    precision: Precision,
) -> Result<Model, ModelProblem> {
    let graph = GraphBuilder::new(
        inputs(shape, names, precision),
        [outlet(TOKENS, TensorElementType::Float32, &[-1, -1, shape.hidden as i64])],
    )?;
    let mut builder = EncoderBuilder { graph, tensors, shape, names, precision };
    if precision == Precision::Int8 {
        builder.graph.int8_constants(shape.activation)?;
    }
    builder.encoder()?;
    builder.graph.finish(if precision == Precision::Bf16 { OPSET_WITH_GELU } else { OPSET })
}

fn inputs(shape: &EncoderShape, names: &Names, precision: Precision) -> Vec<Outlet> {
    let integers = |name: &str, dims: &[i64]| outlet(name, TensorElementType::Int32, dims);
    let mut inputs = vec![integers(IDS, &[-1, -1])];
    inputs.push(match precision {
        Precision::Bf16 => outlet(MASK, TensorElementType::Float32, &[-1, 1, 1, -1]),
        Precision::Fp32 | Precision::Int8 => integers(LENGTHS, &[-1]),
    });
    inputs.push(integers(NUMBERS, &[-1, -1]));
    if names.distances.is_some() {
        let dims = [1, shape.heads as i64, -1, -1];
        inputs.push(outlet(DISTANCES, TensorElementType::Float32, &dims));
    }
    inputs
}

/// A graph under construction, and what it is made of.
pub(super) struct EncoderBuilder<'a> {
    pub(super) graph: GraphBuilder,
    pub(super) tensors: &'a Tensors<'a>,
    pub(super) shape: &'a EncoderShape,
    pub(super) names: &'a Names,
    pub(super) precision: Precision,
}

impl EncoderBuilder<'_> {
    fn encoder(&mut self) -> Result<(), ModelProblem> {
        self.embeddings()?;
        let mut x = "embeddings".to_owned();
        for layer in 0..self.shape.layers {
            let out = match layer + 1 == self.shape.layers {
                true => TOKENS.to_owned(),
                false => format!("layer.{layer}"),
            };
            self.layer(layer, &x, &out)?;
            x = out;
        }
        Ok(())
    }

    fn embeddings(&mut self) -> Result<(), ModelProblem> {
        let EncoderShape { hidden, vocabulary, positions, epsilon, .. } = *self.shape;
        let words = self.tensors.exactly(WORDS, [vocabulary, hidden])?;
        self.graph.initializer("words", &words, &[vocabulary, hidden])?;
        let mut position = self.tensors.exactly(POSITIONS, [positions, hidden])?;
        if self.names.segments {
            // A single text has segment 0 throughout, so its embedding is added to every position once, here.
            let segment = self.tensors.first_row(SEGMENTS, hidden)?;
            for row in position.chunks_exact_mut(hidden) {
                row.iter_mut().zip(&segment).for_each(|(value, segment)| *value += segment);
            }
        }
        self.graph.initializer("positions", &position, &[positions, hidden])?;
        if self.precision == Precision::Bf16 {
            return self.plain_embeddings();
        }
        self.norm(EMBEDDINGS_NORM, ["embeddings.norm.weight", "embeddings.norm.bias"])?;
        let [weight, bias] = ["embeddings.norm.weight", "embeddings.norm.bias"];
        let inputs = [IDS, "", "words", "positions", "", weight, bias, "", NUMBERS];
        let outputs = ["embeddings", "unused_mask"];
        let epsilon = vec![float_attribute("epsilon", epsilon)?];
        self.graph.node("EmbedLayerNormalization", FUSED, &inputs, &outputs, epsilon)
    }

    fn layer(&mut self, layer: usize, x: &str, out: &str) -> Result<(), ModelProblem> {
        let EncoderShape { hidden, intermediate, activation, .. } = *self.shape;
        let names = (self.names.layer)(layer);
        let to = |name: &str| format!("layer.{layer}.{name}");

        self.attention(&names, layer, x)?;
        let bias = self.product(
            &[&names.mixed],
            (&to("attention"), Range::Symmetric),
            &to("mixed"),
            [hidden, hidden],
        )?;
        self.residual(&bias, &names.mixed_norm, [&to("mixed"), x, &to("attended")])?;

        let rows = (&*to("attended"), Range::Symmetric);
        let bias = self.product(&[&names.wide], rows, &to("wide"), [hidden, intermediate])?;
        self.graph.initializer(&to("wide.bias"), &bias, &[intermediate])?;
        let biased = [&*to("wide"), &to("wide.bias")];
        let active = [&*to("active")];
        match activation {
            _ if self.precision == Precision::Bf16 => self.plain_activation(biased, active)?,
            Activation::Gelu => self.graph.node(GELU, OURS, &biased, &active, vec![])?,
            Activation::FastGelu => self.graph.node(FAST_GELU, OURS, &biased, &active, vec![])?,
            Activation::Relu => {
                self.graph.node("Add", ONNX, &biased, &[&to("biased")], vec![])?;
                self.graph.node("Relu", ONNX, &[&to("biased")], &active, vec![])?;
            }
        }
        let rows = (&*to("active"), Range::of(activation));
        let bias = self.product(&[&names.narrow], rows, &to("narrow"), [intermediate, hidden])?;
        self.residual(&bias, &names.narrow_norm, [&to("narrow"), &to("attended"), out])
    }

    /// Attention over the layer's input `x`.
    fn attention(&mut self, names: &LayerNames, layer: usize, x: &str) -> Result<(), ModelProblem> {
        if self.precision == Precision::Bf16 {
            return self.plain_attention(names, layer, x);
        }
        let EncoderShape { hidden, heads, .. } = *self.shape;
        let to = |name: &str| format!("layer.{layer}.{name}");
        let (projected, bias) = (to("projected"), to("projected.bias"));
        let sources = [&*names.query, &names.key, &names.value];
        let biases = self.product(&sources, (x, Range::Symmetric), &projected, [hidden, hidden])?;
        self.graph.initializer(&bias, &biases, &[3 * hidden])?;
        let mut inputs = vec![&*projected, &bias, LENGTHS];
        if self.names.distances.is_some() {
            inputs.push(DISTANCES);
        }
        let heads = vec![integer_attribute("num_heads", heads as i64)?];
        self.graph.node(ATTENTION, OURS, &inputs, &[&to("attention")], heads)
    }

    /// `out = LayerNorm(x + bias + skip)`.
    fn residual(
        &mut self,
        biases: &[f32],
        norm: &str,
        [x, skip, out]: [&str; 3],
    ) -> Result<(), ModelProblem> {
        let bias = format!("{x}.bias");
        self.graph.initializer(&bias, biases, &[self.shape.hidden])?;
        if self.precision == Precision::Bf16 {
            return self.plain_residual(&bias, norm, [x, skip, out]);
        }
        let [weight, shift] = ["norm.weight", "norm.bias"].map(|name| format!("{x}.{name}"));
        self.norm(norm, [&weight, &shift])?;
        let epsilon = vec![float_attribute("epsilon", self.shape.epsilon)?];
        self.graph.node(RESIDUAL, OURS, &[x, skip, &bias, &weight, &shift], &[out], epsilon)
    }

    /// Takes over the two vectors of a layer normalization, which old files call gamma and beta.
    pub(super) fn norm(&mut self, source: &str, [weight, bias]: [&str; 2]) -> Result<(), ModelProblem> {
        for (part, old, name) in [("weight", "gamma", weight), ("bias", "beta", bias)] {
            let (part, old) = (format!("{source}.{part}"), format!("{source}.{old}"));
            let is_old = !self.tensors.has(&part) && self.tensors.has(&old);
            self.vector(if is_old { &old } else { &part }, name, self.shape.hidden)?;
        }
        Ok(())
    }

    /// Takes the vector `source` of the file over as the initializer `name`.
    fn vector(&mut self, source: &str, name: &str, length: usize) -> Result<(), ModelProblem> {
        let values = self.tensors.exactly(source, [length])?;
        self.graph.initializer(name, &values, &[length])
    }
}
