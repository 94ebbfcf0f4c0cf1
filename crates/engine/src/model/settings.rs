//! What a model directory says about its model.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;

use super::files::ModelDir;
use crate::error::ModelProblem;

const CONFIG: &str = "config.json";
const MODULES: &str = "modules.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const LENGTH: &str = "sentence_bert_config.json";
const PROMPTS: &str = "config_sentence_transformers.json";
const SAFETENSORS: &str = "model.safetensors";
const ONNX_FILES: [&str; 2] = ["onnx/model.onnx", "model.onnx"];

/// A tokenizer without a limit writes a number like this; sentence-transformers treats it as none.
const NO_LIMIT: f64 = 1e9;

/// How the vectors of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first token's.
    Cls,
    /// The largest value in each dimension.
    Max,
    /// The last token's.
    LastToken,
    /// Their sum divided by the square root of their number.
    MeanSqrtLen,
}

impl Pooling {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "mean" => Self::Mean,
            "cls" => Self::Cls,
            "max" => Self::Max,
            "lasttoken" => Self::LastToken,
            "mean_sqrt_len_tokens" => Self::MeanSqrtLen,
            _ => return None,
        })
    }

    /// The name that sentence-transformers uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Max => "max",
            Self::LastToken => "lasttoken",
            Self::MeanSqrtLen => "mean_sqrt_len_tokens",
        }
    }
}

/// The activation between the two feed-forward matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// With the error function.
    Gelu,
    /// With its tanh approximation.
    FastGelu,
    /// Rectified linear.
    Relu,
}

/// The sizes of a BERT encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct BertShape {
    /// Length of a token's vector.
    pub hidden: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Length between the two feed-forward matrices.
    pub intermediate: usize,
    /// Size of the vocabulary.
    pub vocabulary: usize,
    /// Positions that have an embedding.
    pub positions: usize,
    /// Epsilon of the layer normalizations.
    pub epsilon: f32,
    /// The activation.
    pub activation: Activation,
}

/// Which file holds the weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Weights {
    /// `model.safetensors` of a BERT encoder.
    Bert(BertShape),
    /// An ONNX graph at this path in the directory.
    Onnx(&'static str),
}

/// All that a directory says, checked for consistency but not against the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSettings {
    /// The weights.
    pub weights: Weights,
    /// Length of the vectors, where the directory says it.
    pub dimensions: Option<usize>,
    /// Tokens that the model takes, special tokens and prompt included.
    pub max_tokens: usize,
    /// The pooling.
    pub pooling: Pooling,
    /// Whether vectors are brought to unit length.
    pub normalize: bool,
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

#[derive(Deserialize)]
struct Config {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    intermediate_size: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    layer_norm_eps: Option<f32>,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    r#type: String,
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
    default_prompt_name: Option<String>,
}

/// The pooling module's file, in both of its spellings: one flag for each mode, or the mode's name.
#[derive(Deserialize, Default)]
struct PoolingConfig {
    #[serde(alias = "embedding_dimension")]
    word_embedding_dimension: Option<usize>,
    pooling_mode: Option<String>,
    include_prompt: Option<bool>,
    #[serde(flatten)]
    flags: BTreeMap<String, serde_json::Value>,
}

impl ModelSettings {
    /// Reads the configuration files of `dir`. The weights are not opened.
    pub fn read(dir: &ModelDir) -> Result<Self, ModelProblem> {
        let mut files = vec![TOKENIZER.to_owned()];
        if !dir.has(TOKENIZER) {
            return Err(ModelProblem::Missing(TOKENIZER.to_owned()));
        }
        let config: Config =
            known(dir, CONFIG, &mut files)?.ok_or(ModelProblem::Missing(CONFIG.to_owned()))?;
        let length: Length = known(dir, LENGTH, &mut files)?.unwrap_or_default();
        let tokenizer: TokenizerConfig = known(dir, TOKENIZER_CONFIG, &mut files)?.unwrap_or_default();
        let prompts: Prompts = known(dir, PROMPTS, &mut files)?.unwrap_or_default();
        let Modules { pooling, normalize, dimensions, include_prompt } = Modules::read(dir, &mut files)?;
        let weights = weights(dir, &config, &mut files)?;

        let (document_prompt, query_prompt) = prompts.choose();
        let has_prompt = !(document_prompt.is_empty() && query_prompt.is_empty());
        if has_prompt && !include_prompt {
            return Err(ModelProblem::Unsupported("pooling that leaves the prompt out".to_owned()));
        }
        let mut looked_for = [CONFIG, MODULES, TOKENIZER, TOKENIZER_CONFIG, LENGTH, PROMPTS, SAFETENSORS]
            .map(str::to_owned)
            .to_vec();
        looked_for.extend(ONNX_FILES.into_iter().flat_map(with_data));
        looked_for.extend(files.iter().cloned());
        files.sort();
        Ok(Self {
            weights,
            dimensions: dimensions.or(config.hidden_size),
            max_tokens: max_tokens(&config, &length, &tokenizer)?,
            pooling,
            normalize,
            lower_case: length.do_lower_case,
            document_prompt,
            query_prompt,
            files,
            looked_for,
        })
    }
}

/// An ONNX file and the files that may hold the tensors of a large one.
fn with_data(name: &str) -> [String; 3] {
    ["", "_data", ".data"].map(|suffix| format!("{name}{suffix}"))
}

/// Reads an optional JSON file and notes that the model depends on it.
fn known<T: serde::de::DeserializeOwned>(
    dir: &ModelDir,
    name: &str,
    files: &mut Vec<String>,
) -> Result<Option<T>, ModelProblem> {
    let value = dir.json(name)?;
    if value.is_some() {
        files.push(name.to_owned());
    }
    Ok(value)
}

struct Modules {
    pooling: Pooling,
    normalize: bool,
    dimensions: Option<usize>,
    include_prompt: bool,
}

impl Modules {
    /// Without `modules.json` sentence-transformers takes the mean and does not normalize.
    fn read(dir: &ModelDir, files: &mut Vec<String>) -> Result<Self, ModelProblem> {
        let mut all =
            Self { pooling: Pooling::Mean, normalize: false, dimensions: None, include_prompt: true };
        let Some(modules) = known::<Vec<Module>>(dir, MODULES, files)? else {
            return Ok(all);
        };
        for module in modules {
            match module.r#type.rsplit('.').next() {
                Some("Transformer") if module.path.is_empty() => {}
                Some("Normalize") => all.normalize = true,
                Some("Pooling") if is_inside(&module.path) => {
                    let name = format!("{}/{CONFIG}", module.path);
                    let config: PoolingConfig =
                        known(dir, &name, files)?.ok_or(ModelProblem::Missing(name.clone()))?;
                    all.dimensions = config.word_embedding_dimension;
                    all.include_prompt = config.include_prompt.unwrap_or(true);
                    all.pooling = config.pooling(&name)?;
                }
                _ => {
                    return Err(ModelProblem::Unsupported(format!("module type \"{}\"", module.r#type)));
                }
            }
        }
        Ok(all)
    }
}

/// Whether a path from `modules.json` stays in the model's directory.
fn is_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

impl PoolingConfig {
    fn pooling(&self, file: &str) -> Result<Pooling, ModelProblem> {
        if let Some(name) = &self.pooling_mode {
            return Pooling::from_name(name)
                .ok_or_else(|| ModelProblem::Unsupported(format!("pooling mode \"{name}\"")));
        }
        let named = |flag: &str| match flag {
            "pooling_mode_cls_token" => Some("cls"),
            "pooling_mode_mean_tokens" => Some("mean"),
            "pooling_mode_max_tokens" => Some("max"),
            "pooling_mode_mean_sqrt_len_tokens" => Some("mean_sqrt_len_tokens"),
            "pooling_mode_lasttoken" => Some("lasttoken"),
            _ => flag.strip_prefix("pooling_mode_").map(|_| "other"),
        };
        let chosen: Vec<&str> = self
            .flags
            .iter()
            .filter(|(_, value)| **value == serde_json::Value::Bool(true))
            .filter_map(|(flag, _)| named(flag))
            .collect();
        match chosen.as_slice() {
            [one] => Pooling::from_name(one)
                .ok_or_else(|| ModelProblem::Unsupported("the pooling mode".to_owned())),
            [] => Err(ModelProblem::Invalid {
                file: file.to_owned(),
                reason: "no pooling mode is set".to_owned(),
            }),
            several => Err(ModelProblem::Unsupported(format!("pooling by {}", several.join(" and ")))),
        }
    }
}

impl Prompts {
    /// The prompts for documents and queries, by the rules of `encode_document` and `encode_query`.
    fn choose(&self) -> (String, String) {
        let first = |names: &[&str]| {
            names
                .iter()
                .copied()
                .chain(self.default_prompt_name.as_deref())
                .find_map(|name| self.prompts.get(name).cloned().flatten())
                .unwrap_or_default()
        };
        (first(&["document", "passage", "corpus"]), first(&["query"]))
    }
}

fn weights(dir: &ModelDir, config: &Config, files: &mut Vec<String>) -> Result<Weights, ModelProblem> {
    let is_bert = config.model_type.as_deref() == Some("bert");
    if is_bert && dir.has(SAFETENSORS) {
        files.push(SAFETENSORS.to_owned());
        return bert_shape(config).map(Weights::Bert);
    }
    if let Some(name) = ONNX_FILES.into_iter().find(|name| dir.has(name)) {
        files.extend(with_data(name).into_iter().filter(|file| dir.has(file)));
        return Ok(Weights::Onnx(name));
    }
    if dir.has(SAFETENSORS) {
        let kind = config.model_type.as_deref().unwrap_or("unknown");
        return Err(ModelProblem::Unsupported(format!("model type \"{kind}\" without an ONNX file")));
    }
    Err(ModelProblem::Missing(format!("{SAFETENSORS}\" or \"{}", ONNX_FILES[0])))
}

fn bert_shape(config: &Config) -> Result<BertShape, ModelProblem> {
    let need = |value: Option<usize>, name: &str| match value {
        Some(value) if value > 0 => Ok(value),
        _ => Err(ModelProblem::Invalid { file: CONFIG.to_owned(), reason: format!("\"{name}\" is missing") }),
    };
    if let Some(kind) = config.position_embedding_type.as_deref().filter(|kind| *kind != "absolute") {
        return Err(ModelProblem::Unsupported(format!("position embedding type \"{kind}\"")));
    }
    if config.is_decoder {
        return Err(ModelProblem::Unsupported("a decoder".to_owned()));
    }
    let activation = match config.hidden_act.as_deref().unwrap_or("gelu") {
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::FastGelu,
        "relu" => Activation::Relu,
        other => return Err(ModelProblem::Unsupported(format!("activation \"{other}\""))),
    };
    let shape = BertShape {
        hidden: need(config.hidden_size, "hidden_size")?,
        layers: need(config.num_hidden_layers, "num_hidden_layers")?,
        heads: need(config.num_attention_heads, "num_attention_heads")?,
        intermediate: need(config.intermediate_size, "intermediate_size")?,
        vocabulary: need(config.vocab_size, "vocab_size")?,
        positions: need(config.max_position_embeddings, "max_position_embeddings")?,
        epsilon: config.layer_norm_eps.unwrap_or(1e-12),
        activation,
    };
    if !shape.hidden.is_multiple_of(shape.heads) {
        return Err(ModelProblem::Invalid {
            file: CONFIG.to_owned(),
            reason: "\"hidden_size\" is not a multiple of \"num_attention_heads\"".to_owned(),
        });
    }
    Ok(shape)
}

/// `sentence_bert_config.json` decides; without it the smaller of the tokenizer's and the encoder's limit, as
/// in sentence-transformers. `truncation` in tokenizer.json does not count: for all-MiniLM-L6-v2 it says 128
/// where the model was trained and is used everywhere with 256.
fn max_tokens(config: &Config, length: &Length, tokenizer: &TokenizerConfig) -> Result<usize, ModelProblem> {
    let of_tokenizer =
        tokenizer.model_max_length.filter(|limit| *limit < NO_LIMIT).map(|limit| limit as usize);
    let positions = config.max_position_embeddings;
    let limit = length.max_seq_length.or(match (of_tokenizer, positions) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    });
    let invalid = |file: &str, reason: String| ModelProblem::Invalid { file: file.to_owned(), reason };
    match limit {
        None => Err(invalid(LENGTH, "no \"max_seq_length\" here and no limit elsewhere".to_owned())),
        Some(limit) if limit < 3 => {
            Err(invalid(LENGTH, format!("\"max_seq_length\" of {limit} is too small")))
        }
        Some(limit) => match positions {
            Some(positions) if limit > positions => {
                Err(invalid(LENGTH, format!("\"max_seq_length\" of {limit} exceeds {positions} positions")))
            }
            _ => Ok(limit),
        },
    }
}
