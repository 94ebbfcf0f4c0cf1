//! Vectors that a directory brings to compare with.

use serde::Deserialize;

use super::files::ModelDir;
use crate::error::ModelProblem;

/// The file; it decides no vector and does not count for the hash.
pub(super) const GOLDEN: &str = "golden.json";
const MOST_BYTES: u64 = 256 << 20;

/// Texts and the vectors that sentence-transformers computes for them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Golden {
    /// The texts.
    pub texts: Vec<String>,
    /// Their vectors as documents.
    pub vectors: Vec<Vec<f32>>,
    /// Their vectors as queries, where these are others.
    pub query_vectors: Option<Vec<Vec<f32>>>,
}

impl Golden {
    /// Reads `golden.json`, if there is one.
    pub fn read(dir: &ModelDir) -> Result<Option<Self>, ModelProblem> {
        if !dir.has(GOLDEN) {
            return Ok(None);
        }
        let invalid = |reason: String| ModelProblem::Invalid { file: GOLDEN.to_owned(), reason };
        let bytes = dir.read_up_to(GOLDEN, MOST_BYTES)?;
        let golden: Self = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        let sets = [Some(&golden.vectors), golden.query_vectors.as_ref()];
        if sets.into_iter().flatten().any(|vectors| vectors.len() != golden.texts.len()) {
            return Err(invalid("another number of texts than of vectors".to_owned()));
        }
        Ok(Some(golden))
    }
}
