//! The names of the tensors of RoBERTa and of those that are built like it, XLM-RoBERTa and CamemBERT.

use super::bert;
use super::names::Names;

pub(super) const NAMES: Names =
    Names { prefix: "roberta.", segments: true, distances: None, layer: bert::layer };
