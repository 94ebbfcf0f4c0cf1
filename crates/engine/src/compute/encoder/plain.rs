//! Embeddings, and what stands between products, of the standard's operators.

use super::build::EncoderBuilder;
use super::names::{EMBEDDINGS_NORM, LayerNames};
use super::product::Range;
use super::{DISTANCES, IDS, MASK, NUMBERS};
use crate::compute::graph::{ONNX, float_attribute, integer_attribute, integers_attribute, text_attribute};
use crate::error::ModelProblem;
use crate::model::Activation;

// The constants.
const SCALE: &str = "attention.scale";
const APART: &str = "attention.apart";
const TOGETHER: &str = "attention.together";
/// Mask and distances.
const BIAS: &str = "attention.added";

impl EncoderBuilder<'_> {
    /// Words and positions, whose matrices are there already, normalized. Makes what all layers share.
    pub(super) fn plain_embeddings(&mut self) -> Result<(), ModelProblem> {
        let (heads, hidden) = (self.shape.heads, self.shape.hidden);
        self.graph.node("Gather", ONNX, &["words", IDS], &["embeddings.words"], vec![])?;
        self.graph.node("Gather", ONNX, &["positions", NUMBERS], &["embeddings.positions"], vec![])?;
        let parts = ["embeddings.words", "embeddings.positions"];
        self.graph.node("Add", ONNX, &parts, &["embeddings.sum"], vec![])?;
        self.normalized(EMBEDDINGS_NORM, "embeddings.sum", "embeddings")?;

        let width = hidden / heads;
        self.graph.initializer(SCALE, &[(width as f32).sqrt().recip()], &[])?;
        // Nought takes a dimension over.
        self.graph.initializer(APART, &[0_i64, 0, heads as i64, width as i64], &[4])?;
        self.graph.initializer(TOGETHER, &[0_i64, 0, hidden as i64], &[3])?;
        if self.names.distances.is_some() {
            self.graph.node("Add", ONNX, &[MASK, DISTANCES], &[BIAS], vec![])?;
        }
        Ok(())
    }

    /// `out = f(x + bias)`.
    pub(super) fn plain_activation(
        &mut self,
        biased: [&str; 2],
        active: [&str; 1],
    ) -> Result<(), ModelProblem> {
        let sum = format!("{}.sum", active[0]);
        self.graph.node("Add", ONNX, &biased, &[&sum], vec![])?;
        let gelu = |approximate: &str| Ok(vec![text_attribute("approximate", approximate)?]);
        match self.shape.activation {
            Activation::Gelu => self.graph.node("Gelu", ONNX, &[&sum], &active, gelu("none")?),
            Activation::FastGelu => self.graph.node("Gelu", ONNX, &[&sum], &active, gelu("tanh")?),
            Activation::Relu => self.graph.node("Relu", ONNX, &[&sum], &active, vec![]),
        }
    }

    /// `out = LayerNorm(x + bias + skip)`.
    pub(super) fn plain_residual(
        &mut self,
        bias: &str,
        norm: &str,
        [x, skip, out]: [&str; 3],
    ) -> Result<(), ModelProblem> {
        let [biased, sum] = ["biased", "sum"].map(|name| format!("{x}.{name}"));
        self.graph.node("Add", ONNX, &[x, bias], &[&biased], vec![])?;
        self.graph.node("Add", ONNX, &[&biased, skip], &[&sum], vec![])?;
        self.normalized(norm, &sum, out)
    }

    /// `out = LayerNorm(x)`, with the two vectors of the file.
    fn normalized(&mut self, norm: &str, x: &str, out: &str) -> Result<(), ModelProblem> {
        let [weight, shift] = ["norm.weight", "norm.bias"].map(|name| format!("{x}.{name}"));
        self.norm(norm, [&weight, &shift])?;
        let attributes =
            vec![integer_attribute("axis", -1)?, float_attribute("epsilon", self.shape.epsilon)?];
        self.graph.node("LayerNormalization", ONNX, &[x, &weight, &shift], &[out], attributes)
    }

    /// Attention over the layer's input `x`.
    pub(super) fn plain_attention(
        &mut self,
        names: &LayerNames,
        layer: usize,
        x: &str,
    ) -> Result<(), ModelProblem> {
        let to = |name: &str| format!("layer.{layer}.{name}");
        let orders: [[i64; 4]; 3] = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]];
        let sources = [(&names.query, "query"), (&names.key, "key"), (&names.value, "value")];
        for ((source, part), order) in sources.into_iter().zip(orders) {
            self.heads(source, x, &to(part), &order)?;
        }
        let [query, key, value] = ["query", "key", "value"].map(to);
        let [product, scaled, scores, weights, mixed, back] =
            ["product", "scaled", "scores", "weights", "heads", "back"].map(to);
        let graph = &mut self.graph;
        graph.node("MatMul", ONNX, &[&query, &key], &[&product], vec![])?;
        graph.node("Mul", ONNX, &[&product, SCALE], &[&scaled], vec![])?;
        let added = if self.names.distances.is_some() { BIAS } else { MASK };
        graph.node("Add", ONNX, &[&scaled, added], &[&scores], vec![])?;
        graph.node("Softmax", ONNX, &[&scores], &[&weights], vec![integer_attribute("axis", -1)?])?;
        graph.node("MatMul", ONNX, &[&weights, &value], &[&mixed], vec![])?;
        let order = vec![integers_attribute("perm", &[0, 2, 1, 3])?];
        graph.node("Transpose", ONNX, &[&mixed], &[&back], order)?;
        graph.node("Reshape", ONNX, &[&back, TOGETHER], &[&to("attention")], vec![])
    }

    /// A projection of `x`, biased, cut into heads, its dimensions in another order.
    fn heads(&mut self, source: &str, x: &str, out: &str, order: &[i64; 4]) -> Result<(), ModelProblem> {
        let hidden = self.shape.hidden;
        let [plain, bias, biased, apart] =
            ["plain", "bias", "biased", "apart"].map(|name| format!("{out}.{name}"));
        let biases = self.product(&[source], (x, Range::Symmetric), &plain, [hidden, hidden])?;
        self.graph.initializer(&bias, &biases, &[hidden])?;
        self.graph.node("Add", ONNX, &[&plain, &bias], &[&biased], vec![])?;
        self.graph.node("Reshape", ONNX, &[&biased, APART], &[&apart], vec![])?;
        self.graph.node("Transpose", ONNX, &[&apart], &[out], vec![integers_attribute("perm", order)?])
    }
}
