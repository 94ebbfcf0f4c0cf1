//! The modules of sentence-transformers: what is done with the vectors of a text's tokens.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;

use super::settings::{CONFIG, Reader};
use crate::error::ModelProblem;

pub(super) const MODULES: &str = "modules.json";
const SAFETENSORS: &str = "model.safetensors";

/// How the vectors of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first token's.
    Cls,
    /// The largest value in each dimension.
    Max,
    /// Their mean.
    Mean,
    /// Their sum divided by the square root of their number.
    MeanSqrtLen,
    /// Their mean, where each counts as often as its place says.
    WeightedMean,
    /// The last token's.
    LastToken,
}

/// The modes by the names and flags of sentence-transformers, in the order in which several are put together.
const POOLINGS: [(Pooling, &str, &str); 6] = [
    (Pooling::Cls, "cls", "pooling_mode_cls_token"),
    (Pooling::Max, "max", "pooling_mode_max_tokens"),
    (Pooling::Mean, "mean", "pooling_mode_mean_tokens"),
    (Pooling::MeanSqrtLen, "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
    (Pooling::WeightedMean, "weightedmean", "pooling_mode_weightedmean_tokens"),
    (Pooling::LastToken, "lasttoken", "pooling_mode_lasttoken"),
];

impl Pooling {
    fn from_name(name: &str) -> Result<Self, ModelProblem> {
        POOLINGS
            .into_iter()
            .find(|(_, known, _)| *known == name)
            .map(|(pooling, ..)| pooling)
            .ok_or_else(|| ModelProblem::Unsupported(format!("pooling mode \"{name}\"")))
    }

    /// The name that sentence-transformers uses.
    pub fn name(self) -> &'static str {
        POOLINGS.iter().find(|(pooling, ..)| *pooling == self).map_or("", |(_, name, _)| name)
    }
}

/// What happens to the pooled vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is brought to unit length.
    Normalize,
    /// It goes through a layer of a neural network.
    Dense(DenseLayer),
}

/// A dense layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenseLayer {
    /// The file with its weights.
    pub file: String,
    /// Length of the vectors that it takes.
    pub from: usize,
    /// Length of the vectors that it gives.
    pub to: usize,
    /// Whether a vector is added.
    pub bias: bool,
    /// What is done with each number afterwards.
    pub activation: DenseActivation,
}

/// The function at the end of a dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenseActivation {
    /// None.
    Identity,
    /// Hyperbolic tangent.
    Tanh,
    /// Rectified linear.
    Relu,
    /// Gaussian error linear, with the error function.
    Gelu,
    /// Logistic.
    Sigmoid,
    /// The number times its logistic.
    Silu,
}

impl DenseActivation {
    /// By the class of torch.
    fn from_class(class: &str) -> Result<Self, ModelProblem> {
        let unsupported = || ModelProblem::Unsupported(format!("activation function \"{class}\""));
        // sentence-transformers takes other classes for Tanh, unless it is told to trust them.
        let name = class.strip_prefix("torch.nn.modules.").or_else(|| class.strip_prefix("torch.nn."));
        let name = name.ok_or_else(unsupported)?;
        Ok(match name.rsplit('.').next().unwrap_or(name) {
            "Identity" => Self::Identity,
            "Tanh" => Self::Tanh,
            "ReLU" => Self::Relu,
            "GELU" => Self::Gelu,
            "Sigmoid" => Self::Sigmoid,
            "SiLU" => Self::Silu,
            _ => return Err(unsupported()),
        })
    }
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    r#type: String,
}

/// The pooling module's file, in both of its spellings: one flag for each mode, or the mode's name.
#[derive(Deserialize, Default)]
struct PoolingConfig {
    #[serde(alias = "embedding_dimension")]
    word_embedding_dimension: Option<usize>,
    pooling_mode: Option<OneOrSeveral>,
    include_prompt: Option<bool>,
    #[serde(flatten)]
    flags: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    bias: Option<bool>,
    activation_function: Option<String>,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
    #[serde(default)]
    use_residual: bool,
}

/// What `modules.json` and the modules' own files say.
pub(super) struct Modules {
    /// Length of a token's vector.
    pub(super) token_dimensions: Option<usize>,
    /// The modes, whose vectors are put one behind the other.
    pub(super) pooling: Vec<Pooling>,
    pub(super) include_prompt: bool,
    pub(super) steps: Vec<Step>,
}

impl Modules {
    /// Without `modules.json` sentence-transformers takes the mean and does not normalize.
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut all = Self {
            token_dimensions: None,
            pooling: vec![Pooling::Mean],
            include_prompt: true,
            steps: Vec::new(),
        };
        let mut pooled = false;
        for module in reader.json::<Vec<Module>>(MODULES).unwrap_or_default() {
            let kind = module.r#type.rsplit('.').next().unwrap_or_default();
            let result = match kind {
                "Transformer" if module.path.is_empty() => Ok(()),
                "Dropout" => Ok(()),
                "Pooling" if !pooled => {
                    pooled = true;
                    all.read_pooling(reader, &module.path)
                }
                "Normalize" if pooled => {
                    all.steps.push(Step::Normalize);
                    Ok(())
                }
                "Dense" if pooled => all.read_dense(reader, &module.path),
                "Transformer" | "Pooling" | "Normalize" | "Dense" => {
                    Err(ModelProblem::Unsupported(format!("module \"{kind}\" at this place of {MODULES}")))
                }
                _ => Err(ModelProblem::Unsupported(format!("module type \"{}\"", module.r#type))),
            };
            reader.note(result);
        }
        all
    }

    /// Length of the finished vector, where `token_dimensions` tells that of a token's.
    pub(super) fn dimensions(&self, token_dimensions: Option<usize>) -> Option<usize> {
        let last = self.steps.iter().rev().find_map(|step| match step {
            Step::Dense(layer) => Some(layer.to),
            Step::Normalize => None,
        });
        last.or(token_dimensions?.checked_mul(self.pooling.len()))
    }

    fn read_pooling(&mut self, reader: &mut Reader, path: &str) -> Result<(), ModelProblem> {
        let file = inside(path, CONFIG)?;
        let Some(config) = reader.required::<PoolingConfig>(&file) else { return Ok(()) };
        self.token_dimensions = config.word_embedding_dimension;
        self.include_prompt = config.include_prompt.unwrap_or(true);
        self.pooling = config.modes(&file)?;
        Ok(())
    }

    fn read_dense(&mut self, reader: &mut Reader, path: &str) -> Result<(), ModelProblem> {
        let file = inside(path, CONFIG)?;
        let weights = inside(path, SAFETENSORS)?;
        let config = reader.required::<DenseConfig>(&file);
        reader.require(&weights);
        let Some(config) = config else { return Ok(()) };
        let invalid = |reason: String| ModelProblem::Invalid { file: file.clone(), reason };
        if config.in_features == 0 || config.out_features == 0 {
            return Err(invalid("a number of features is 0".to_owned()));
        }
        if let Some(given) = self.dimensions(self.token_dimensions)
            && given != config.in_features
        {
            return Err(invalid(format!("\"in_features\" is {} where {given} come in", config.in_features)));
        }
        let whole = |name: &Option<String>| name.as_deref().is_none_or(|name| name == "sentence_embedding");
        if !whole(&config.module_input_name) || !whole(&config.module_output_name) {
            return Err(ModelProblem::Unsupported(
                "a dense layer of other values than the text's".to_owned(),
            ));
        }
        if config.use_residual {
            return Err(ModelProblem::Unsupported("a dense layer with a residual connection".to_owned()));
        }
        self.steps.push(Step::Dense(DenseLayer {
            file: weights,
            from: config.in_features,
            to: config.out_features,
            bias: config.bias.unwrap_or(true),
            activation: match config.activation_function.as_deref() {
                None => DenseActivation::Tanh,
                Some(class) => DenseActivation::from_class(class)?,
            },
        }));
        Ok(())
    }
}

/// The name of a module's file; refuses a path that leaves the model's directory.
fn inside(path: &str, file: &str) -> Result<String, ModelProblem> {
    let parts_are_names = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !parts_are_names {
        let reason = format!("the path {path:?} is not one of a folder in the model's directory");
        return Err(ModelProblem::Invalid { file: MODULES.to_owned(), reason });
    }
    Ok(format!("{}/{file}", path.trim_end_matches('/')))
}

impl PoolingConfig {
    fn modes(&self, file: &str) -> Result<Vec<Pooling>, ModelProblem> {
        let mut chosen: Vec<Pooling> = match &self.pooling_mode {
            Some(OneOrSeveral::One(name)) => vec![Pooling::from_name(name)?],
            Some(OneOrSeveral::Several(names)) => {
                names.iter().map(|name| Pooling::from_name(name)).collect::<Result<_, _>>()?
            }
            None => {
                let set = |flag: &str| self.flags.get(flag) == Some(&serde_json::Value::Bool(true));
                let unknown = self.flags.keys().find(|name| {
                    name.starts_with("pooling_mode_")
                        && set(name)
                        && POOLINGS.iter().all(|(_, _, flag)| flag != name)
                });
                if let Some(name) = unknown {
                    return Err(ModelProblem::Unsupported(format!("\"{name}\"")));
                }
                POOLINGS.into_iter().filter(|(_, _, flag)| set(flag)).map(|(pooling, ..)| pooling).collect()
            }
        };
        if chosen.len() > POOLINGS.len() {
            let reason = format!("{} pooling modes", chosen.len());
            return Err(ModelProblem::Invalid { file: file.to_owned(), reason });
        }
        if chosen.is_empty() {
            chosen.push(Pooling::Mean);
        }
        Ok(chosen)
    }
}
