//! A BERT encoder from safetensors, as a graph of ONNX Runtime's fused operators.
//!
//! The graph is made in memory when the model is loaded: that takes no longer than parsing a prepared file,
//! and the model directory stays the hub's. Pooling happens outside, as for published graphs.

use ort::editor::{Graph, Model, Node, ONNX_DOMAIN, Opset};
use ort::memory::Allocator;
use ort::operator::Attribute;
use ort::session::Session;
use ort::value::{Outlet, Shape, SymbolicDimensions, Tensor, TensorElementType, TensorRef, ValueType};
use safetensors::{Dtype, SafeTensors};

use super::runtime::{Runtime, failed, refused};
use super::{Backend, Batch};
use crate::error::{Error, ModelProblem};
use crate::model::{Activation, BertShape, ModelDir};

/// Domain of the fused operators.
const FUSED: &str = "com.microsoft";
const FUSED_VERSION: u32 = 1;
/// Opset of the other operators, the first with all that are used here.
const OPSET: u32 = 17;

/// Token vectors of a batch, before pooling.
pub(super) struct BertEncoder {
    session: Session,
    ids: Vec<i32>,
    lengths: Vec<i32>,
}

impl BertEncoder {
    pub(super) fn load(
        runtime: &Runtime,
        dir: &ModelDir,
        shape: &BertShape,
        name: &str,
    ) -> Result<Self, Error> {
        let options = runtime.session()?;
        let bytes = dir.read("model.safetensors").map_err(|problem| Error::bad_model(name, problem))?;
        let session = build(&bytes, shape)
            .and_then(|model| model.into_session(&options).map_err(|error| refused(&error)))
            .map_err(|problem| Error::bad_model(name, problem))?;
        Ok(Self { session, ids: Vec::new(), lengths: Vec::new() })
    }

    /// Calls `each` with the token vectors, `rows × width × hidden` numbers.
    pub(super) fn run(&mut self, batch: &Batch, each: impl FnOnce(&[f32])) -> Result<(), Error> {
        self.ids.clear();
        self.ids.extend(batch.ids().iter().map(|id| *id as i32));
        self.lengths.clear();
        self.lengths.extend(batch.lengths().iter().map(|length| *length as i32));
        let run = || -> ort::Result<()> {
            let ids = TensorRef::from_array_view(([batch.rows(), batch.width()], self.ids.as_slice()))?;
            let lengths = TensorRef::from_array_view(([batch.rows()], self.lengths.as_slice()))?;
            let outputs = self.session.run(ort::inputs!["input_ids" => ids, "lengths" => lengths])?;
            let (_, values) = outputs["token_embeddings"].try_extract_tensor::<f32>()?;
            each(values);
            Ok(())
        };
        run().map_err(|error| failed(&error))
    }
}

fn build(bytes: &[u8], shape: &BertShape) -> Result<Model, ModelProblem> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| ModelProblem::Invalid {
        file: "model.safetensors".to_owned(),
        reason: error.to_string(),
    })?;
    let mut builder = GraphBuilder {
        graph: Graph::new().map_err(|error| refused(&error))?,
        weights: Weights { file, prefix: String::new() },
        shape,
    };
    builder.weights.find_prefix();
    builder.encoder()?;
    let mut model = Model::new([
        Opset::new(ONNX_DOMAIN, OPSET).map_err(|error| refused(&error))?,
        Opset::new(FUSED, FUSED_VERSION).map_err(|error| refused(&error))?,
    ])
    .map_err(|error| refused(&error))?;
    model.set_graph(builder.graph).map_err(|error| refused(&error))?;
    Ok(model)
}

struct GraphBuilder<'a> {
    graph: Graph,
    weights: Weights<'a>,
    shape: &'a BertShape,
}

impl GraphBuilder<'_> {
    fn encoder(&mut self) -> Result<(), ModelProblem> {
        let hidden = self.shape.hidden as i64;
        let integers = |name: &str, dims: &[i64]| outlet(name, TensorElementType::Int32, dims);
        self.graph
            .set_inputs([integers("input_ids", &[-1, -1]), integers("lengths", &[-1])])
            .map_err(|error| refused(&error))?;
        self.graph
            .set_outputs([outlet("token_embeddings", TensorElementType::Float32, &[-1, -1, hidden])])
            .map_err(|error| refused(&error))?;
        self.embeddings()?;
        let mut x = "embeddings".to_owned();
        for layer in 0..self.shape.layers {
            let out = match layer + 1 == self.shape.layers {
                true => "token_embeddings".to_owned(),
                false => format!("layer.{layer}"),
            };
            self.layer(layer, &x, &out)?;
            x = out;
        }
        Ok(())
    }

    fn embeddings(&mut self) -> Result<(), ModelProblem> {
        let BertShape { hidden, vocabulary, positions, epsilon, .. } = *self.shape;
        let words = self.weights.matrix("embeddings.word_embeddings.weight", [vocabulary, hidden])?;
        self.initializer("words", &words, &[vocabulary, hidden])?;
        // A single text has segment 0 throughout, so its embedding is added to every position once, here.
        let mut position =
            self.weights.matrix("embeddings.position_embeddings.weight", [positions, hidden])?;
        let segments = self.weights.prefix_rows("embeddings.token_type_embeddings.weight", 1, hidden)?;
        for row in position.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&segments).for_each(|(value, segment)| *value += segment);
        }
        self.initializer("positions", &position, &[positions, hidden])?;
        self.vector("embeddings.LayerNorm.weight", "embeddings.norm.weight", hidden)?;
        self.vector("embeddings.LayerNorm.bias", "embeddings.norm.bias", hidden)?;
        self.node(
            "EmbedLayerNormalization",
            FUSED,
            &["input_ids", "", "words", "positions", "", "embeddings.norm.weight", "embeddings.norm.bias"],
            &["embeddings", "unused_mask"],
            vec![attribute("epsilon", epsilon)?],
        )
    }

    fn layer(&mut self, layer: usize, x: &str, out: &str) -> Result<(), ModelProblem> {
        let BertShape { hidden, heads, intermediate, epsilon, activation, .. } = *self.shape;
        let source = format!("encoder.layer.{layer}");
        let to = |name: &str| format!("layer.{layer}.{name}");

        let (weights, bias) = self.query_key_value(&source)?;
        self.initializer(&to("qkv.weight"), &weights, &[hidden, 3 * hidden])?;
        self.initializer(&to("qkv.bias"), &bias, &[3 * hidden])?;
        self.node(
            "Attention",
            FUSED,
            &[x, &to("qkv.weight"), &to("qkv.bias"), "lengths"],
            &[&to("attention")],
            vec![attribute("num_heads", heads as i64)?],
        )?;
        self.product(
            &format!("{source}.attention.output.dense"),
            &to("attention"),
            &to("mixed"),
            hidden,
            hidden,
        )?;
        self.residual(&format!("{source}.attention.output"), &to("mixed"), x, &to("attended"), epsilon)?;

        self.product(
            &format!("{source}.intermediate.dense"),
            &to("attended"),
            &to("wide"),
            hidden,
            intermediate,
        )?;
        let bias = to("wide.bias");
        self.vector(&format!("{source}.intermediate.dense.bias"), &bias, intermediate)?;
        match activation {
            Activation::Gelu => {
                self.node("BiasGelu", FUSED, &[&to("wide"), &bias], &[&to("active")], vec![])?
            }
            Activation::FastGelu => {
                self.node("FastGelu", FUSED, &[&to("wide"), &bias], &[&to("active")], vec![])?;
            }
            Activation::Relu => {
                self.node("Add", ONNX_DOMAIN, &[&to("wide"), &bias], &[&to("biased")], vec![])?;
                self.node("Relu", ONNX_DOMAIN, &[&to("biased")], &[&to("active")], vec![])?;
            }
        }
        self.product(&format!("{source}.output.dense"), &to("active"), &to("narrow"), intermediate, hidden)?;
        self.residual(&format!("{source}.output"), &to("narrow"), &to("attended"), out, epsilon)
    }

    /// The three projections as one `[hidden, 3 × hidden]` matrix and their biases, as `Attention` takes them.
    fn query_key_value(&self, source: &str) -> Result<(Vec<f32>, Vec<f32>), ModelProblem> {
        let hidden = self.shape.hidden;
        let mut weights = vec![0.0; hidden * 3 * hidden];
        let mut bias = Vec::with_capacity(3 * hidden);
        for (part, name) in ["query", "key", "value"].into_iter().enumerate() {
            let name = format!("{source}.attention.self.{name}");
            let matrix = self.weights.matrix(&format!("{name}.weight"), [hidden, hidden])?;
            transpose(&matrix, [hidden, hidden], &mut weights[part * hidden..], 3 * hidden);
            bias.extend(self.weights.matrix(&format!("{name}.bias"), [hidden])?);
        }
        Ok((weights, bias))
    }

    /// `out = x × Wᵀ`, without the bias, which the following fused operator adds.
    fn product(
        &mut self,
        source: &str,
        x: &str,
        out: &str,
        from: usize,
        to: usize,
    ) -> Result<(), ModelProblem> {
        let matrix = self.weights.matrix(&format!("{source}.weight"), [to, from])?;
        let mut transposed = vec![0.0; matrix.len()];
        transpose(&matrix, [to, from], &mut transposed, to);
        let name = format!("{out}.weight");
        self.initializer(&name, &transposed, &[from, to])?;
        self.node("MatMul", ONNX_DOMAIN, &[x, &name], &[out], vec![])
    }

    /// `out = LayerNorm(x + bias + skip)`.
    fn residual(
        &mut self,
        source: &str,
        x: &str,
        skip: &str,
        out: &str,
        epsilon: f32,
    ) -> Result<(), ModelProblem> {
        let hidden = self.shape.hidden;
        let [weight, shift, bias] = ["norm.weight", "norm.bias", "bias"].map(|name| format!("{x}.{name}"));
        self.vector(&format!("{source}.LayerNorm.weight"), &weight, hidden)?;
        self.vector(&format!("{source}.LayerNorm.bias"), &shift, hidden)?;
        self.vector(&format!("{source}.dense.bias"), &bias, hidden)?;
        let epsilon = vec![attribute("epsilon", epsilon)?];
        self.node("SkipLayerNormalization", FUSED, &[x, skip, &weight, &shift, &bias], &[out], epsilon)
    }

    /// Takes the vector `source` of the file over as the initializer `name`.
    fn vector(&mut self, source: &str, name: &str, length: usize) -> Result<(), ModelProblem> {
        let values = self.weights.matrix(source, [length])?;
        self.initializer(name, &values, &[length])
    }

    fn initializer(&mut self, name: &str, values: &[f32], dims: &[usize]) -> Result<(), ModelProblem> {
        let mut add = || -> ort::Result<()> {
            let shape = Shape::new(dims.iter().map(|dim| *dim as i64));
            let mut tensor = Tensor::<f32>::new(&Allocator::default(), shape)?;
            tensor.extract_tensor_mut().1.copy_from_slice(values);
            self.graph.add_initializer(name, tensor, false)
        };
        add().map_err(|error| refused(&error))
    }

    fn node(
        &mut self,
        operator: &str,
        domain: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> Result<(), ModelProblem> {
        Node::new(operator, domain, format!("{}/{operator}", outputs[0]), inputs, outputs, attributes)
            .and_then(|node| self.graph.add_node(node))
            .map_err(|error| refused(&error))
    }
}

fn attribute(name: &str, value: impl Into<AttributeValue>) -> Result<Attribute, ModelProblem> {
    match value.into() {
        AttributeValue::Float(value) => Attribute::new(name, value),
        AttributeValue::Integer(value) => Attribute::new(name, value),
    }
    .map_err(|error| refused(&error))
}

enum AttributeValue {
    Float(f32),
    Integer(i64),
}

impl From<f32> for AttributeValue {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}

impl From<i64> for AttributeValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

fn outlet(name: &str, ty: TensorElementType, dims: &[i64]) -> Outlet {
    let dimension_symbols = SymbolicDimensions::empty(dims.len());
    Outlet::new(name, ValueType::Tensor { ty, shape: Shape::new(dims.iter().copied()), dimension_symbols })
}

/// Writes the `[rows, columns]` matrix `from` transposed to `to`, whose rows are `stride` apart. In blocks, so
/// that both sides stay in the processor's cache.
fn transpose(from: &[f32], [rows, columns]: [usize; 2], to: &mut [f32], stride: usize) {
    const BLOCK: usize = 32;
    for row_block in (0..rows).step_by(BLOCK) {
        for column_block in (0..columns).step_by(BLOCK) {
            for row in row_block..(row_block + BLOCK).min(rows) {
                for column in column_block..(column_block + BLOCK).min(columns) {
                    to[column * stride + row] = from[row * columns + column];
                }
            }
        }
    }
}

/// The tensors of a safetensors file, by the names that transformers gives them.
struct Weights<'a> {
    file: SafeTensors<'a>,
    prefix: String,
}

impl Weights<'_> {
    /// A model saved with a head has all names behind `bert.`.
    fn find_prefix(&mut self) {
        if self.file.tensor("bert.embeddings.word_embeddings.weight").is_ok() {
            self.prefix = "bert.".to_owned();
        }
    }

    /// The numbers of a tensor that must have exactly these dimensions.
    fn matrix<const N: usize>(&self, name: &str, dims: [usize; N]) -> Result<Vec<f32>, ModelProblem> {
        let (shape, values) = self.read(name, usize::MAX)?;
        if shape != dims {
            return Err(wrong(name, format!("has shape {shape:?} where {dims:?} is needed")));
        }
        Ok(values)
    }

    /// The first `rows` rows of a matrix with `columns` columns.
    fn prefix_rows(&self, name: &str, rows: usize, columns: usize) -> Result<Vec<f32>, ModelProblem> {
        let (shape, values) = self.read(name, rows * columns)?;
        match shape.as_slice() {
            [all, width] if *all >= rows && *width == columns => Ok(values),
            _ => Err(wrong(name, format!("has shape {shape:?} where [≥ {rows}, {columns}] is needed"))),
        }
    }

    fn read(&self, name: &str, limit: usize) -> Result<(Vec<usize>, Vec<f32>), ModelProblem> {
        let full = format!("{}{name}", self.prefix);
        let tensor = self.file.tensor(&full).map_err(|_| wrong(&full, "is missing".to_owned()))?;
        if tensor.dtype() != Dtype::F32 {
            return Err(wrong(&full, format!("has type {:?} where F32 is needed", tensor.dtype())));
        }
        let (numbers, _) = tensor.data().as_chunks::<4>();
        let values = numbers.iter().take(limit).map(|bytes| f32::from_le_bytes(*bytes)).collect();
        Ok((tensor.shape().to_vec(), values))
    }
}

fn wrong(tensor: &str, reason: String) -> ModelProblem {
    ModelProblem::Tensor { tensor: tensor.to_owned(), reason }
}

/// [`BertEncoder`] followed by pooling.
pub(super) struct BertBackend {
    pub(super) encoder: BertEncoder,
    pub(super) head: super::loaded::Head,
}

impl Backend for BertBackend {
    fn dimensions(&self) -> usize {
        self.head.dimensions
    }

    fn embed(&mut self, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error> {
        let head = &self.head;
        self.encoder.run(batch, |tokens| head.apply(batch, tokens, out))
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn transposes_into_a_wider_matrix() {
        let (rows, columns, stride) = (33, 70, 40);
        let from: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let mut to = vec![-1.0; columns * stride];
        transpose(&from, [rows, columns], &mut to, stride);
        for row in 0..rows {
            for column in 0..columns {
                assert_eq!(to[column * stride + row], from[row * columns + column]);
            }
        }
        assert_eq!(to[rows], -1.0);
    }
}
