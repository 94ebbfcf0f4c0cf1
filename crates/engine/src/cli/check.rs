//! `model check`.

use std::time::Instant;

use crate::compute::{LoadedModel, Runtime, load};
use crate::model::{Catalog, ModelSettings, Weights, model_hash};
use vector_embed_protocol::Purpose;

use super::{Places, explain, places, print};

/// Texts of ordinary length to measure with.
const SAMPLE: &str =
    "A database keeps what it was told, also when the lights go out in the middle of a sentence.";

/// Loads the model, computes with it, and prints what it is.
pub(super) fn check(name: &str, places: &Places) -> Result<(), String> {
    let entry = Catalog::new(places.models()?).find(name).map_err(explain)?;
    let runtime = Runtime::new(places.runtime()?, places::threads());
    let start = Instant::now();
    let model = load(&runtime, &entry, std::convert::identity).map_err(explain)?;
    let loaded = start.elapsed();
    let settings = ModelSettings::read(&entry.dir).map_err(|problem| problem.to_string())?;
    let (hash, bytes) = model_hash(&entry.dir, &settings.files).map_err(|problem| problem.to_string())?;
    let format = match settings.weights {
        Weights::Bert(_) => "safetensors",
        Weights::Onnx(file) => file,
    };
    let rows = [
        ("model", name.to_owned()),
        ("format", format.to_owned()),
        ("dimensions", model.dimensions.to_string()),
        ("max tokens", settings.max_tokens.to_string()),
        ("pooling", settings.pooling.name().to_owned()),
        ("normalized", settings.normalize.to_string()),
        ("document prompt", quoted(&settings.document_prompt)),
        ("query prompt", quoted(&settings.query_prompt)),
        ("files", settings.files.join(", ")),
        ("bytes", bytes.to_string()),
        ("hash", hash),
        ("load time", format!("{} ms", loaded.as_millis())),
        ("speed", format!("{:.0} tokens/s on {} threads", speed(&model)?, runtime.threads())),
    ];
    rows.iter().try_for_each(|(label, value)| print(&format!("{label:<16}{value}\n")))
}

fn quoted(prompt: &str) -> String {
    if prompt.is_empty() { "none".to_owned() } else { format!("{prompt:?}") }
}

/// Tokens a second in batches of eight, the median of some runs; fails if a vector is not finite.
fn speed(model: &LoadedModel) -> Result<f64, String> {
    let tokens =
        model.tokenizer.tokenize(SAMPLE, Purpose::Document, model.tokenizer.limit(None)).map_err(explain)?;
    let mut vectors = Vec::new();
    let mut times = Vec::new();
    for _ in 0..9 {
        vectors.clear();
        let start = Instant::now();
        model.embed(std::iter::repeat_n(&*tokens.ids, 8), &mut vectors).map_err(explain)?;
        times.push(start.elapsed());
    }
    if vectors.iter().any(|number| !number.is_finite()) {
        return Err("the model computes numbers that are not finite".to_owned());
    }
    times.sort();
    Ok((8 * tokens.ids.len()) as f64 / times[times.len() / 2].as_secs_f64())
}
