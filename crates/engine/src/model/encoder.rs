//! The encoders that are built from safetensors: which there are, and what `config.json` says of one.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::settings::CONFIG;
use crate::error::ModelProblem;

/// A family of encoders whose weights have the same names and meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// BERT.
    Bert,
    /// RoBERTa, and with it XLM-RoBERTa and CamemBERT.
    Roberta,
    /// DistilBERT.
    DistilBert,
    /// MPNet: RoBERTa with a bias for the distance of tokens.
    Mpnet,
}

impl Architecture {
    fn of(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "bert" => Self::Bert,
            "roberta" | "xlm-roberta" | "camembert" => Self::Roberta,
            "distilbert" => Self::DistilBert,
            "mpnet" => Self::Mpnet,
            _ => return None,
        })
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

/// The position that a text's first token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// Nought, and one more for each token.
    FromZero,
    /// That behind the id of padding. A token of that id inside a text is not counted and has the id as its position.
    Behind(u32),
}

impl Positions {
    /// Tokens that can be numbered where there are embeddings of `all` positions.
    pub fn usable(self, all: usize) -> usize {
        match self {
            Self::FromZero => all,
            Self::Behind(pad) => all.saturating_sub(pad as usize + 1),
        }
    }
}

/// The sizes of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderShape {
    /// The architecture.
    pub architecture: Architecture,
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
    /// How tokens are numbered.
    pub numbering: Positions,
    /// Epsilon of the layer normalizations.
    pub epsilon: f32,
    /// The activation.
    pub activation: Activation,
}

/// `config.json`, with the names that DistilBERT has for some of it.
#[derive(Deserialize, Default)]
pub(super) struct Config {
    pub(super) model_type: Option<String>,
    #[serde(default, deserialize_with = "size")]
    hidden_size: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    dim: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    num_hidden_layers: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    n_layers: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    num_attention_heads: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    n_heads: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    intermediate_size: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    hidden_dim: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    layer_norm_eps: Option<f32>,
    hidden_act: Option<String>,
    activation: Option<Value>,
    position_embedding_type: Option<String>,
    pad_token_id: Option<i64>,
    #[serde(default, deserialize_with = "size")]
    relative_attention_num_buckets: Option<usize>,
    #[serde(default)]
    is_decoder: bool,
}

/// A size, if it is a number: models of other kinds mean other things by these names.
fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    Ok(Value::deserialize(from)?.as_u64().and_then(|number| usize::try_from(number).ok()))
}

/// Buckets of distances that MPNet has a bias for. Its code takes no other number, whatever the configuration says.
pub const DISTANCE_BUCKETS: usize = 32;

impl Config {
    /// The architecture, where the engine knows it.
    pub(super) fn architecture(&self) -> Option<Architecture> {
        self.model_type.as_deref().and_then(Architecture::of)
    }

    /// Length of a token's vector.
    pub(super) fn hidden(&self) -> Option<usize> {
        self.hidden_size.or(self.dim)
    }

    /// Tokens that the encoder has positions for.
    pub(super) fn usable_positions(&self) -> Option<usize> {
        Some(self.numbering().usable(self.max_position_embeddings?))
    }

    /// Positions that have an embedding.
    pub(super) fn positions(&self) -> Option<usize> {
        self.max_position_embeddings
    }

    fn numbering(&self) -> Positions {
        match self.architecture() {
            // A negative one leaves no usable position, which is refused.
            Some(Architecture::Roberta) => {
                Positions::Behind(self.pad_token_id.map_or(1, |id| u32::try_from(id).unwrap_or(u32::MAX)))
            }
            // Written so in its code.
            Some(Architecture::Mpnet) => Positions::Behind(1),
            Some(Architecture::Bert | Architecture::DistilBert) | None => Positions::FromZero,
        }
    }

    /// The sizes of an encoder of this architecture.
    pub(super) fn shape(&self, architecture: Architecture) -> Result<EncoderShape, ModelProblem> {
        let invalid = |reason: String| ModelProblem::Invalid { file: CONFIG.to_owned(), reason };
        let need = |value: Option<usize>, name: &str| match value {
            Some(value) if value > 0 => Ok(value),
            _ => Err(invalid(format!("\"{name}\" is missing"))),
        };
        if let Some(kind) = self.position_embedding_type.as_deref().filter(|kind| *kind != "absolute") {
            return Err(ModelProblem::Unsupported(format!("position embedding type \"{kind}\"")));
        }
        if self.is_decoder {
            return Err(ModelProblem::Unsupported("a decoder".to_owned()));
        }
        if let Some(buckets) = self.relative_attention_num_buckets
            && architecture == Architecture::Mpnet
            && buckets != DISTANCE_BUCKETS
        {
            return Err(ModelProblem::Unsupported(format!("attention with {buckets} buckets of distances")));
        }
        let distilled = architecture == Architecture::DistilBert;
        let size = |usual: Option<usize>, other: Option<usize>, names: [&str; 2]| {
            if distilled { need(other, names[1]) } else { need(usual, names[0]) }
        };
        let activation = match &self.activation {
            Some(activation) if distilled => activation.as_str().unwrap_or("that is no name"),
            _ if distilled => "gelu",
            _ => self.hidden_act.as_deref().unwrap_or("gelu"),
        };
        let activation = match activation {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::FastGelu,
            "relu" => Activation::Relu,
            other => return Err(ModelProblem::Unsupported(format!("activation \"{other}\""))),
        };
        let epsilon = self.layer_norm_eps.filter(|_| !distilled).unwrap_or(1e-12);
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return Err(invalid("\"layer_norm_eps\" is not a small number".to_owned()));
        }
        let shape = EncoderShape {
            architecture,
            hidden: size(self.hidden_size, self.dim, ["hidden_size", "dim"])?,
            layers: size(self.num_hidden_layers, self.n_layers, ["num_hidden_layers", "n_layers"])?,
            heads: size(self.num_attention_heads, self.n_heads, ["num_attention_heads", "n_heads"])?,
            intermediate: size(self.intermediate_size, self.hidden_dim, ["intermediate_size", "hidden_dim"])?,
            vocabulary: need(self.vocab_size, "vocab_size")?,
            positions: need(self.max_position_embeddings, "max_position_embeddings")?,
            numbering: self.numbering(),
            epsilon,
            activation,
        };
        if !shape.hidden.is_multiple_of(shape.heads) {
            return Err(invalid("\"hidden_size\" is not a multiple of \"num_attention_heads\"".to_owned()));
        }
        Ok(shape)
    }
}
