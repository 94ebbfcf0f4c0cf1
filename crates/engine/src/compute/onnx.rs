//! Graphs as the hub publishes them.

use ort::session::Session;
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};

use super::head::Head;
use super::onnx_files;
use super::runtime::{Runtime, failed};
use super::{Backend, Batch};
use crate::error::{Error, ModelProblem};
use crate::model::ModelDir;

/// The output with vectors of texts instead of tokens.
const POOLED: &str = "sentence_embedding";

/// A graph that takes `input_ids`, `attention_mask` and perhaps `token_type_ids`, all `[batch, tokens]` of
/// int64, and gives token vectors or finished ones.
pub(super) struct OnnxBackend {
    session: Session,
    output: &'static str,
    pooled: bool,
    segments: bool,
    head: Head,
    buffers: Buffers,
}

#[derive(Default)]
struct Buffers {
    ids: Vec<i64>,
    mask: Vec<i64>,
    segments: Vec<i64>,
}

impl OnnxBackend {
    pub(super) fn load(
        runtime: &Runtime,
        dir: &ModelDir,
        file: &str,
        head: Head,
        name: &str,
    ) -> Result<Self, Error> {
        let mut options = runtime.session()?;
        // Quantization with a scale over the whole batch would make a vector depend on its neighbours.
        let bytes = dir.read_weights(file).map_err(|problem| Error::bad_model(name, problem))?;
        if memchr::memmem::find(&bytes, b"DynamicQuantize").is_some() {
            let problem = ModelProblem::Unsupported("a dynamically quantized graph".to_owned());
            return Err(Error::bad_model(name, problem));
        }
        onnx_files::check(&bytes, file).map_err(|problem| Error::bad_model(name, problem))?;
        drop(bytes);
        let session = options.commit_from_file(dir.file(file)).map_err(|error| {
            // ONNX Runtime names the file with its directory, which is nobody's business.
            let reason = error.message().replace(&format!("{}/", dir.path().display()), "");
            Error::bad_model(name, ModelProblem::Refused(reason))
        })?;
        Self::check(session, head).map_err(|problem| Error::bad_model(name, problem))
    }

    fn check(session: Session, mut head: Head) -> Result<Self, ModelProblem> {
        let mut segments = false;
        for input in session.inputs() {
            match input.name() {
                "input_ids" | "attention_mask" => {}
                "token_type_ids" => segments = true,
                other => return Err(ModelProblem::Unsupported(format!("graph input \"{other}\""))),
            }
            let integers = matches!(input.dtype(), ValueType::Tensor { ty: TensorElementType::Int64, .. });
            if !integers {
                return Err(ModelProblem::Unsupported(format!(
                    "graph input \"{}\" that is not int64",
                    input.name()
                )));
            }
        }
        let (output, outlet) = find_output(&session, &head)?;
        let pooled = output == POOLED;
        let told = match outlet.dtype() {
            ValueType::Tensor { shape, .. } => shape.last().and_then(|last| usize::try_from(*last).ok()),
            _ => None,
        };
        let silent = || ModelProblem::Unsupported("a graph that does not tell its dimensions".to_owned());
        if pooled {
            let dimensions = told.unwrap_or(head.dimensions());
            if head.has_dense() && dimensions != head.dimensions() {
                let reason = "a graph with pooled vectors only, in front of a dense layer".to_owned();
                return Err(ModelProblem::Unsupported(reason));
            }
            head.keep_normalization_only(dimensions);
        } else {
            head.set_token_dimensions(told.unwrap_or(head.token_dimensions()))?;
        }
        if head.dimensions() == 0 {
            return Err(silent());
        }
        Ok(Self { session, output, pooled, segments, head, buffers: Buffers::default() })
    }
}

/// The output to take. Where layers follow that a pooled vector may have behind it already, token vectors are surer.
fn find_output<'s>(session: &'s Session, head: &Head) -> Result<(&'static str, &'s Outlet), ModelProblem> {
    const TOKENS: [&str; 2] = ["last_hidden_state", "token_embeddings"];
    let names = match head.has_dense() {
        true => [TOKENS[0], TOKENS[1], POOLED],
        false => [POOLED, TOKENS[0], TOKENS[1]],
    };
    let find = |name| session.outputs().iter().find(|output| output.name() == name).map(|it| (name, it));
    names.into_iter().find_map(find).ok_or_else(|| {
        let what =
            "a graph without output \"sentence_embedding\", \"last_hidden_state\" or \"token_embeddings\"";
        ModelProblem::Unsupported(what.to_owned())
    })
}

impl Backend for OnnxBackend {
    fn dimensions(&self) -> usize {
        self.head.dimensions()
    }

    fn pads(&self) -> bool {
        true
    }

    fn embed(&mut self, batch: &Batch, out: &mut Vec<f32>) -> Result<(), Error> {
        let Self { session, output, pooled, segments, head, buffers } = self;
        buffers.fill(batch);
        let mut run = || -> ort::Result<()> {
            let shape = [batch.rows(), batch.width()];
            let mut inputs = ort::inputs![
                "input_ids" => TensorRef::from_array_view((shape, buffers.ids.as_slice()))?,
                "attention_mask" => TensorRef::from_array_view((shape, buffers.mask.as_slice()))?,
            ];
            if *segments {
                let zeros = TensorRef::from_array_view((shape, buffers.segments.as_slice()))?;
                inputs.push(("token_type_ids".into(), zeros.into()));
            }
            let outputs = session.run(inputs)?;
            let (shape, values) = outputs[*output].try_extract_tensor::<f32>()?;
            let (rows, width) = (batch.rows() as i64, batch.width() as i64);
            // The same for both kinds: a pooled vector counts as that of one token.
            let width_of_output = head.token_dimensions();
            let expected = [rows, width, width_of_output as i64];
            let expected = if *pooled { vec![expected[0], expected[2]] } else { expected.to_vec() };
            if **shape != *expected {
                return Err(ort::Error::new("the output does not have the expected dimensions"));
            }
            match *pooled {
                true => head.apply_to_pooled(values, out),
                false => head.apply(batch.lengths(), batch.width(), values, out),
            }
            Ok(())
        };
        run().map_err(|error| failed(&error))
    }
}

impl Buffers {
    fn fill(&mut self, batch: &Batch) {
        self.ids.clear();
        self.ids.extend(batch.padded().map(i64::from));
        self.mask.clear();
        self.mask.resize(self.ids.len(), 0);
        for (row, length) in self.mask.chunks_exact_mut(batch.width().max(1)).zip(batch.lengths()) {
            row[..*length].fill(1);
        }
        self.segments.clear();
        self.segments.resize(self.ids.len(), 0);
    }
}
