//! What is told of a model's weights.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;

use super::files::ModelDir;
use super::settings::{ModelSettings, SAFETENSORS, Weights};
use crate::error::ModelProblem;

/// As much of a header is read to find the type.
const MOST_HEADER_BYTES: u64 = 16 << 20;

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
}

/// The format of the weights. Types that are made float32 when they are loaded are named: `safetensors (float16)`.
pub fn describe_format(dir: &ModelDir, settings: &ModelSettings) -> String {
    match settings.weights {
        Weights::Onnx(_) => "onnx".to_owned(),
        Weights::Safetensors(_) => match stored_type(dir).as_deref() {
            Some("F16") => "safetensors (float16)".to_owned(),
            Some("BF16") => "safetensors (bfloat16)".to_owned(),
            _ => "safetensors".to_owned(),
        },
    }
}

/// Bytes that the model takes in memory: those of its files, whose numbers become float32. Tells it before anything is
/// loaded; what the session makes of the graph, and what it takes to compute, comes on top.
pub fn weigh(dir: &ModelDir, settings: &ModelSettings) -> Result<u64, ModelProblem> {
    let mut bytes = 0_u64;
    for file in &settings.files {
        let halves = file == SAFETENSORS && matches!(stored_type(dir).as_deref(), Some("F16" | "BF16"));
        bytes = bytes.saturating_add(dir.check(file)?.saturating_mul(if halves { 2 } else { 1 }));
    }
    Ok(bytes)
}

/// The type that most numbers of the file have.
fn stored_type(dir: &ModelDir) -> Option<String> {
    let mut file = dir.open(SAFETENSORS).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER_BYTES {
        return None;
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).ok()?;
    let mut tensors: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&header).ok()?;
    tensors.remove("__metadata__");
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in tensors.into_values() {
        let Tensor { dtype, shape } = serde_json::from_value(tensor).ok()?;
        let size = shape.into_iter().fold(1, u64::saturating_mul);
        let sum = numbers.entry(dtype).or_default();
        *sum = sum.saturating_add(size);
    }
    numbers.into_iter().max_by_key(|(_, count)| *count).map(|(dtype, _)| dtype)
}
