//! What a model is computed in, and the file of a model directory that says it.

use serde::{Deserialize, Serialize};

use crate::error::ModelProblem;

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
    /// 16-bit numbers with the range of 32-bit ones, on processors that multiply them, by OpenVINO.
    Bf16,
}

impl Precision {
    /// Its name in files, on the command line and in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Int8 => "int8",
            Self::Bf16 => "bf16",
        }
    }

    /// Why this processor does not compute in it.
    pub(super) fn problem(self) -> Option<ModelProblem> {
        let lacks = self == Self::Bf16 && !multiplies_bf16();
        lacks.then(|| {
            ModelProblem::Unsupported("precision bf16 on a processor without AVX512_BF16".to_owned())
        })
    }
}

/// Whether the processor multiplies 16-bit numbers. Those with AMX do, too. Without, bf16 would be computed as fp32 after
/// a loss of digits.
fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The contents of [`OWN_SETTINGS`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnSettings {
    pub(super) precision: Precision,
}
