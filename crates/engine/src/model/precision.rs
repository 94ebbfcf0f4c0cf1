//! What a model is computed in, and the file of a model directory that says it.

use serde::{Deserialize, Serialize};

/// The one file of a model directory that is ours. It is absent where there is nothing to say.
pub(super) const OWN_SETTINGS: &str = "vector_embed.json";

/// Number format of products with the weights. Another one makes other vectors, so it is part of a model's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As sentence-transformers computes.
    #[default]
    Fp32,
    /// 8-bit integers, with a scale for each column of the weights and for each token.
    Int8,
}

impl Precision {
    /// Its name in files, on the command line and in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Int8 => "int8",
        }
    }
}

/// The contents of [`OWN_SETTINGS`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnSettings {
    pub(super) precision: Precision,
}
