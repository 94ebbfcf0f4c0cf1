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

    fn pads(&self) -> bool {
        self.precision == Precision::Bf16
    }

    fn embed(&mut self, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error> {
        let pads = self.pads();
        let Self { session, outputs, numbering, distances, head, buffers, .. } = self;
        match pads {
            true => buffers.fill_padded(batch, *numbering),
            false => buffers.fill(batch, *numbering),
        }
        let (texts, width) = (batch.rows(), batch.width());
        // Where nothing is padded, all texts are one row.
        let rows = if pads { texts } else { 1 };
        let mut run = || -> ort::Result<()> {
            let tokens = buffers.ids.len() / rows.max(1);
            let numbers = [buffers.numbers.len() / tokens.max(1), tokens];
            let mut inputs = ort::inputs![
                IDS => TensorRef::from_array_view(([rows, tokens], buffers.ids.as_slice()))?,
                NUMBERS => TensorRef::from_array_view((numbers, buffers.numbers.as_slice()))?,
            ];
            if pads {
                let mask = TensorRef::from_array_view(([texts, 1, 1, width], buffers.mask.as_slice()))?;
                inputs.push((MASK.into(), mask.into()));
            } else {
                let lengths = TensorRef::from_array_view(([texts], buffers.lengths.as_slice()))?;
                inputs.push((LENGTHS.into(), lengths.into()));
            }
            if let Some(bias) = distances {
                bias.fill(width, &mut buffers.distances);
                let shape = [1, bias.heads(), width, width];
                let values = TensorRef::from_array_view((shape, buffers.distances.as_slice()))?;
                inputs.push((DISTANCES.into(), values.into()));
            }
            let computed = session.run_with_options(inputs, outputs)?;
            let (_, values) = computed[TOKENS].try_extract_tensor::<f32>()?;
            head.apply(batch.lengths(), if pads { width } else { 0 }, values, out);
            Ok(())
        };
        run().map_err(|error| failed(&error))
    }
}

impl Buffers {
    /// Texts behind each other.
    fn fill(&mut self, batch: &Batch, numbering: Positions) {
        self.ids.clear();
        self.ids.extend(batch.ids().iter().map(|id| *id as i32));
        self.lengths.clear();
        self.lengths.extend(batch.lengths().iter().map(|length| *length as i32));
        self.numbers.clear();
        batch.texts().for_each(|text| self.number(text, numbering));
    }

    /// Texts below each other, each padded to the longest.
    fn fill_padded(&mut self, batch: &Batch, numbering: Positions) {
        self.ids.clear();
        self.ids.extend(batch.padded().map(|id| id as i32));
        self.mask.clear();
        self.mask.resize(self.ids.len(), PADDING);
        let width = batch.width().max(1);
        for (row, length) in self.mask.chunks_exact_mut(width).zip(batch.lengths()) {
            row[..*length].fill(0.0);
        }
        self.numbers.clear();
        let ids: Vec<u32> = batch.padded().collect();
        // Counted from nought they are the same for all rows.
        let rows = if numbering == Positions::FromZero { 1 } else { batch.rows() };
        ids.chunks_exact(width).take(rows).for_each(|row| self.number(row, numbering));
    }

    /// Adds the positions of a text's tokens.
    fn number(&mut self, ids: &[u32], numbering: Positions) {
        match numbering {
            Positions::FromZero => self.numbers.extend(0..ids.len() as i32),
            Positions::Behind(pad) => {
                let mut last = pad as i32;
                self.numbers.extend(ids.iter().map(|id| {
                    let counts = *id != pad;
                    last += i32::from(counts);
                    if counts { last } else { pad as i32 }
                }));
            }
        }
    }
}
