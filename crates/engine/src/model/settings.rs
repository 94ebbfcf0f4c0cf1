//! What a model directory says about its model.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::encoder::{Config, EncoderShape};
use super::files::ModelDir;
use super::modules::{Modules, Pooling, Step};
use super::precision::{OWN_SETTINGS, OwnSettings, Precision};
use crate::error::ModelProblem;

pub(super) const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const LENGTH: &str = "sentence_bert_config.json";
pub(super) const PROMPTS: &str = "config_sentence_transformers.json";
/// The file with an encoder's weights.
pub const SAFETENSORS: &str = "model.safetensors";
const ONNX_FILES: [&str; 2] = ["onnx/model.onnx", "model.onnx"];

/// A tokenizer without a limit writes a number like this; sentence-transformers treats it as none.
const NO_LIMIT: f64 = 1e9;

/// No model has so many tokens or dimensions; a number beyond it is a mistake or malice.
const MOST: usize = 1 << 20;

/// Which file holds the weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Weights {
    /// `model.safetensors` of an encoder.
    Safetensors(EncoderShape),
    /// An ONNX graph at this path in the directory.
    Onnx(&'static str),
}

/// All that a directory says, checked for consistency but not against the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSettings {
    /// The weights.
    pub weights: Weights,
    /// What products with the weights are computed in.
    pub precision: Precision,
    /// Length of a token's vector, where the directory says it.
    pub token_dimensions: Option<usize>,
    /// Length of the finished vectors, where the directory says it.
    pub dimensions: Option<usize>,
    /// Tokens that the model takes, special tokens and prompt included.
    pub max_tokens: usize,
    /// Tokens that it has positions for.
    pub most_tokens: usize,
    /// The poolings, whose vectors are put one behind the other.
    pub pooling: Vec<Pooling>,
    /// What happens to the pooled vector.
    pub steps: Vec<Step>,
    /// Whether texts are lower-cased before the tokenizer sees them.
    pub lower_case: bool,
    /// Prompt in front of stored texts.
    pub document_prompt: String,
    /// Prompt in front of queries.
    pub query_prompt: String,
    /// The files that decide the vectors, relative to the directory.
    pub files: Vec<String>,
    /// All files that were looked for: one that appears later changes the model as well.
    pub looked_for: Vec<String>,
}

#[derive(Deserialize, Default)]
struct Length {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Deserialize, Default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

#[derive(Deserialize, Default)]
struct Prompts {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
}

/// Reads files of a directory, and keeps which it looked for and what is wrong with them.
pub(super) struct Reader<'a> {
    dir: &'a ModelDir,
    files: Vec<String>,
    looked_for: Vec<String>,
    problems: Vec<ModelProblem>,
}

impl Reader<'_> {
    /// An optional JSON file.
    pub(super) fn json<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        self.looked_for.push(name.to_owned());
        let value = self.note(self.dir.json(name)).flatten();
        if value.is_some() {
            self.files.push(name.to_owned());
        }
        value
    }

    /// A JSON file that must be there.
    pub(super) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let before = self.problems.len();
        let value = self.json(name);
        if value.is_none() && self.problems.len() == before {
            self.problems.push(ModelProblem::Missing(name.to_owned()));
        }
        value
    }

    /// A file that must be there and is read later.
    pub(super) fn require(&mut self, name: &str) {
        self.looked_for.push(name.to_owned());
        if self.note(self.dir.check(name)).is_some() {
            self.files.push(name.to_owned());
        }
    }

    /// Keeps a problem.
    pub(super) fn note<T>(&mut self, result: Result<T, ModelProblem>) -> Option<T> {
        result.map_err(|problem| self.problems.push(problem)).ok()
    }

    /// The weights; of what is possible those that the engine computes fastest.
    fn weights(&mut self, config: &Config) -> Option<Weights> {
        self.looked_for.push(SAFETENSORS.to_owned());
        self.looked_for.extend(ONNX_FILES.into_iter().flat_map(with_data));
        let has_safetensors = self.dir.has(SAFETENSORS);
        if let Some(architecture) = config.architecture().filter(|_| has_safetensors) {
            self.require(SAFETENSORS);
            return self.note(config.shape(architecture)).map(Weights::Safetensors);
        }
        if let Some(name) = ONNX_FILES.into_iter().find(|name| self.dir.has(name)) {
            with_data(name).iter().filter(|file| self.dir.has(file)).for_each(|file| self.require(file));
            return Some(Weights::Onnx(name));
        }
        self.problems.push(if has_safetensors {
            let kind = config.model_type.as_deref().unwrap_or("unknown");
            ModelProblem::Unsupported(format!("model type \"{kind}\" without an ONNX file"))
        } else {
            ModelProblem::Missing(format!("{SAFETENSORS}\" or \"{}", ONNX_FILES[0]))
        });
        None
    }
}

impl ModelSettings {
    /// Reads the configuration files of `dir`. The weights are not opened.
    pub fn read(dir: &ModelDir) -> Result<Self, ModelProblem> {
        Self::survey(dir).map_err(|mut problems| problems.swap_remove(0))
    }

    /// The same, with all that is wrong: at least one problem, the first one first.
    pub fn survey(dir: &ModelDir) -> Result<Self, Vec<ModelProblem>> {
        let mut reader = Reader { dir, files: Vec::new(), looked_for: Vec::new(), problems: Vec::new() };
        reader.require(TOKENIZER);
        let config: Option<Config> = reader.required(CONFIG);
        let length: Length = reader.json(LENGTH).unwrap_or_default();
        let tokenizer: TokenizerConfig = reader.json(TOKENIZER_CONFIG).unwrap_or_default();
        let prompts: Prompts = reader.json(PROMPTS).unwrap_or_default();
        let own: OwnSettings = reader.json(OWN_SETTINGS).unwrap_or_default();
        let modules = Modules::read(&mut reader);
        // Without it nothing can be said of the weights and the limit.
        let Some(config) = config else { return Err(reader.problems) };
        let weights = reader.weights(&config);

        if own.precision != Precision::Fp32 && matches!(weights, Some(Weights::Onnx(_))) {
            let what = format!("precision {} of an ONNX graph", own.precision.name());
            reader.problems.push(ModelProblem::Unsupported(what));
        }
        let (document_prompt, query_prompt) = prompts.choose();
        let has_prompt = !(document_prompt.is_empty() && query_prompt.is_empty());
        if has_prompt && !modules.include_prompt {
            let problem = ModelProblem::Unsupported("pooling that leaves the prompt out".to_owned());
            reader.problems.push(problem);
        }
        let max_tokens = reader.note(max_tokens(&config, &length, &tokenizer));
        let token_dimensions = modules.token_dimensions.or(config.hidden());
        if let Some(dimensions) = token_dimensions.filter(|dimensions| *dimensions == 0 || *dimensions > MOST)
        {
            reader
                .problems
                .push(ModelProblem::Unsupported(format!("a length of token vectors of {dimensions}")));
        }
        let Reader { mut files, looked_for, problems, .. } = reader;
        let (Some(weights), Some(max_tokens), true) = (weights, max_tokens, problems.is_empty()) else {
            return Err(problems);
        };
        files.sort();
        files.dedup();
        Ok(Self {
            token_dimensions,
            dimensions: modules.dimensions(token_dimensions),
            max_tokens,
            most_tokens: match &weights {
                Weights::Safetensors(shape) => shape.numbering.usable(shape.positions),
                // Positions that the configuration tells of need not be those of the graph.
                Weights::Onnx(_) => max_tokens,
            },
            weights,
            precision: own.precision,
            pooling: modules.pooling,
            steps: modules.steps,
            lower_case: length.do_lower_case,
            document_prompt,
            query_prompt,
            files,
            looked_for,
        })
    }

    /// Whether vectors have unit length.
    pub fn normalized(&self) -> bool {
        self.steps.last() == Some(&Step::Normalize)
    }

    /// The numbers that the model computes with; empty where its graph decides.
    pub fn precision_name(&self) -> &'static str {
        match self.weights {
            Weights::Safetensors(_) => self.precision.name(),
            Weights::Onnx(_) => "",
        }
    }

    /// The names of the poolings.
    pub fn pooling_name(&self) -> String {
        let names: Vec<&str> = self.pooling.iter().map(|pooling| pooling.name()).collect();
        names.join("+")
    }
}

/// An ONNX file and the files that may hold the tensors of a large one.
fn with_data(name: &str) -> [String; 3] {
    ["", "_data", ".data"].map(|suffix| format!("{name}{suffix}"))
}

impl Prompts {
    /// The prompts of `encode_document` and `encode_query`. Both names always have one, an empty one if nothing else,
    /// so that neither the other names that sentence-transformers looks for nor its default prompt are ever used there.
    fn choose(&self) -> (String, String) {
        let of = |name: &str| self.prompts.get(name).cloned().flatten().unwrap_or_default();
        (of("document"), of("query"))
    }
}

/// `sentence_bert_config.json` decides; without it the smaller of the tokenizer's and the encoder's limit, as
/// in sentence-transformers. `truncation` in tokenizer.json does not count: for all-MiniLM-L6-v2 it says 128
/// where the model was trained and is used everywhere with 256.
fn max_tokens(config: &Config, length: &Length, tokenizer: &TokenizerConfig) -> Result<usize, ModelProblem> {
    let of_tokenizer =
        tokenizer.model_max_length.filter(|limit| *limit < NO_LIMIT).map(|limit| limit as usize);
    let usable = config.usable_positions();
    let limit = length.max_seq_length.or(match (of_tokenizer, usable) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    });
    let invalid = |file: &str, reason: String| ModelProblem::Invalid { file: file.to_owned(), reason };
    match (limit, config.positions()) {
        (None, _) => Err(invalid(LENGTH, "no \"max_seq_length\" here and no limit elsewhere".to_owned())),
        (Some(limit), _) if !(3..=MOST).contains(&limit) => {
            let what = if limit < 3 { "small" } else { "large" };
            Err(invalid(LENGTH, format!("\"max_seq_length\" of {limit} is too {what}")))
        }
        (Some(limit), Some(positions)) if limit > positions => {
            Err(invalid(LENGTH, format!("\"max_seq_length\" of {limit} exceeds {positions} positions")))
        }
        // Some published models count the positions that RoBERTa keeps for padding, and fail for texts so long.
        (Some(limit), _) => match usable {
            Some(usable) if usable < 3 => Err(invalid(CONFIG, format!("{usable} usable positions"))),
            Some(usable) => Ok(limit.min(usable)),
            None => Ok(limit),
        },
    }
}
