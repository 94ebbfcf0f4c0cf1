//! An encoder from safetensors, as a graph: ONNX Runtime's embeddings and products, and our operators.
//!
//! The graph is made in memory when the model is loaded: that takes no longer than parsing a prepared file,
//! and the model directory stays the hub's. Pooling happens outside, as for published graphs.
//!
//! OpenVINO gets one of plain operators, which it fuses by itself.
//!
//! `build` makes the graph for all architectures; they differ in names, in how tokens are numbered, and in what is
//! added to the attention. Products with weights, and their precision, are in `product`.

mod bert;
mod build;
mod distilbert;
mod mpnet;
mod names;
mod plain;
mod product;
mod roberta;

use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session};
use ort::value::TensorRef;

use self::mpnet::DistanceBias;
use self::names::Names;
use super::head::Head;
use super::operators::session_with_ours;
use super::runtime::{Runtime, failed, refused};
use super::weights::Tensors;
use super::{Backend, Batch};
use crate::error::{Error, ModelProblem};
use crate::model::{EncoderShape, ModelDir, Positions, Precision, SAFETENSORS};

// The graph's inputs and its output.
const IDS: &str = "input_ids";
const LENGTHS: &str = "lengths";
/// What is added to the attention of a token to each other: nought, or for padding so little that nothing is left of it.
const MASK: &str = "mask";
const NUMBERS: &str = "position_ids";
const DISTANCES: &str = "attention_bias";
const TOKENS: &str = "token_embeddings";

/// The mask's value for padding.
const PADDING: f32 = -1e9;

/// Token vectors of a batch from an encoder, and the texts' vectors from them.
pub(super) struct EncoderBackend {
    session: Session,
    /// The one output, selected.
    outputs: RunOptions<HasSelectedOutputs>,
    precision: Precision,
    numbering: Positions,
    distances: Option<DistanceBias>,
    head: Head,
    buffers: Buffers,
}

#[derive(Default)]
struct Buffers {
    ids: Vec<i32>,
    lengths: Vec<i32>,
    mask: Vec<f32>,
    numbers: Vec<i32>,
    distances: Vec<f32>,
}

impl EncoderBackend {
    pub(super) fn load(
        runtime: &Runtime,
        dir: &ModelDir,
        shape: &EncoderShape,
        precision: Precision,
        head: Head,
        name: &str,
    ) -> Result<Self, Error> {
        let bad = |problem| Error::bad_model(name, problem);
        let options = match precision {
            Precision::Fp32 | Precision::Int8 => runtime.session()?,
            Precision::Bf16 => runtime.bf16_session()?,
        };
        let bytes = dir.read_weights(SAFETENSORS).map_err(bad)?;
        let read = || -> Result<_, ModelProblem> {
            let mut tensors = Tensors::parse(&bytes, SAFETENSORS)?;
            let names = Names::of(shape.architecture);
            tensors.find_prefix(names.prefix, names::WORDS);
            let model = build::build(&tensors, shape, names, precision)?;
            let distances = match names.distances {
                None => None,
                Some(name) => {
                    let weights = tensors.exactly(name, [crate::model::DISTANCE_BUCKETS, shape.heads])?;
                    let most = shape.numbering.usable(shape.positions);
                    Some(DistanceBias::new(&weights, shape.heads, most))
                }
            };
            let session = match precision {
                Precision::Fp32 | Precision::Int8 => session_with_ours(&model, options),
                Precision::Bf16 => model.into_session(&options),
            };
            let outputs = RunOptions::new()
                .map(|options| options.with_outputs(OutputSelector::no_default().with(TOKENS)));
            let both = session.and_then(|session| Ok((session, outputs?)));
            let (session, outputs) = both.map_err(|error| refused(&error))?;
            Ok((session, outputs, distances))
        };
        let (session, outputs, distances) = read().map_err(bad)?;
        Ok(Self {
            session,
            outputs,
            precision,
            numbering: shape.numbering,
            distances,
            head,
            buffers: Buffers::default(),
        })
    }
}

impl Backend for EncoderBackend {
    fn dimensions(&self) -> usize {
        self.head.dimensions()
    }

    fn embed(&mut self, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error> {
        let Self { session, outputs, precision, numbering, distances, head, buffers } = self;
        buffers.fill(batch, *precision, *numbering, distances.as_ref());
        let (rows, width) = (batch.rows(), batch.width());
        let mut run = || -> ort::Result<()> {
            let mut inputs = ort::inputs![
                IDS => TensorRef::from_array_view(([rows, width], buffers.ids.as_slice()))?,
            ];
            if *precision == Precision::Bf16 {
                let mask = TensorRef::from_array_view(([rows, 1, 1, width], buffers.mask.as_slice()))?;
                inputs.push((MASK.into(), mask.into()));
            } else {
                let lengths = TensorRef::from_array_view(([rows], buffers.lengths.as_slice()))?;
                inputs.push((LENGTHS.into(), lengths.into()));
            }
            if numbers_tokens(*numbering, *precision) {
                let rows = buffers.numbers.len() / width.max(1);
                let numbers = TensorRef::from_array_view(([rows, width], buffers.numbers.as_slice()))?;
                inputs.push((NUMBERS.into(), numbers.into()));
            }
            if let Some(bias) = distances {
                let shape = [1, bias.heads(), width, width];
                let values = TensorRef::from_array_view((shape, buffers.distances.as_slice()))?;
                inputs.push((DISTANCES.into(), values.into()));
            }
            let computed = session.run_with_options(inputs, outputs)?;
            let (_, values) = computed[TOKENS].try_extract_tensor::<f32>()?;
            head.apply(batch, values, out);
            Ok(())
        };
        run().map_err(|error| failed(&error))
    }
}

/// Whether the graph takes the tokens' positions: ONNX Runtime's embeddings count from nought by themselves.
fn numbers_tokens(numbering: Positions, precision: Precision) -> bool {
    numbering != Positions::FromZero || precision == Precision::Bf16
}

impl Buffers {
    fn fill(
        &mut self,
        batch: &Batch,
        precision: Precision,
        numbering: Positions,
        distances: Option<&DistanceBias>,
    ) {
        self.ids.clear();
        self.ids.extend(batch.ids().iter().map(|id| *id as i32));
        self.lengths.clear();
        self.lengths.extend(batch.lengths().iter().map(|length| *length as i32));
        if precision == Precision::Bf16 {
            self.mask.clear();
            self.mask.resize(batch.ids().len(), PADDING);
            for (row, length) in self.mask.chunks_exact_mut(batch.width().max(1)).zip(batch.lengths()) {
                row[..*length].fill(0.0);
            }
        }
        self.numbers.clear();
        if numbering == Positions::FromZero && precision == Precision::Bf16 {
            // The same for all rows.
            self.numbers.extend(0..batch.width() as i32);
        }
        if let Positions::Behind(pad) = numbering {
            for row in batch.ids().chunks_exact(batch.width().max(1)) {
                let mut last = pad as i32;
                self.numbers.extend(row.iter().map(|id| {
                    let counts = *id != pad;
                    last += i32::from(counts);
                    if counts { last } else { pad as i32 }
                }));
            }
        }
        if let Some(bias) = distances {
            bias.fill(batch.width(), &mut self.distances);
        }
    }
}
