//! `model check`.

use std::time::Instant;

use crate::compute::{LoadedModel, Runtime, load};
use crate::error::{Error, ModelProblem};
use crate::model::{Catalog, Entry, Golden, ModelSettings, Weights, describe_format, model_hash};
use vector_embed_protocol::Purpose;

use super::{Places, explain, places, print};

/// Texts of ordinary length to measure with.
const SAMPLE: &str =
    "A database keeps what it was told, also when the lights go out in the middle of a sentence.";
/// Below this cosine a vector is another one, see ARCHITECTURE.md.
const AGREES: f64 = 0.99999;

/// Loads the model, computes with it, and prints what it is.
pub(super) fn check(name: &str, places: &Places) -> Result<(), String> {
    let entry = Catalog::new(places.models()?).find(name).map_err(explain)?;
    let settings = ModelSettings::survey(&entry.dir).map_err(|problems| lacks(name, problems))?;
    let runtime = Runtime::new(places.runtime()?, places::threads());
    let start = Instant::now();
    let model = load(&runtime, &entry, std::convert::identity).map_err(explain)?;
    let loaded = start.elapsed();
    let (hash, bytes) = model_hash(&entry.dir, &settings.files).map_err(|problem| problem.to_string())?;
    let architecture = match &settings.weights {
        Weights::Safetensors(shape) => format!(
            "{:?}, {} layers, {} heads, {} wide",
            shape.architecture, shape.layers, shape.heads, shape.hidden
        ),
        Weights::Onnx(file) => (*file).to_owned(),
    };
    let rows = [
        ("model", name.to_owned()),
        ("format", describe_format(&entry.dir, &settings)),
        ("graph", architecture),
        ("dimensions", model.dimensions.to_string()),
        ("max tokens", settings.max_tokens.to_string()),
        ("vocabulary", model.tokenizer.vocabulary().to_string()),
        ("pooling", settings.pooling_name()),
        ("normalized", settings.normalized().to_string()),
        ("document prompt", quoted(&settings.document_prompt)),
        ("query prompt", quoted(&settings.query_prompt)),
        ("files", settings.files.join(", ")),
        ("bytes", bytes.to_string()),
        ("hash", hash),
        ("load time", format!("{} ms", loaded.as_millis())),
        ("speed", format!("{:.0} tokens/s on {} threads", speed(&model)?, runtime.threads())),
        ("golden vectors", golden(&entry, &model)?),
    ];
    rows.iter().try_for_each(|(label, value)| print(&format!("{label:<16}{value}\n")))
}

/// All that is wrong with a directory.
fn lacks(name: &str, mut problems: Vec<ModelProblem>) -> String {
    if problems.len() == 1 {
        return explain(Error::bad_model(name, problems.remove(0)));
    }
    let list: Vec<String> = problems.iter().map(|problem| format!("\ndetail: {problem}")).collect();
    format!("could not load model \"{name}\", for {} reasons{}", problems.len(), list.concat())
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
    times.sort();
    Ok((8 * tokens.ids.len()) as f64 / times[times.len() / 2].as_secs_f64())
}

/// How near the model's vectors are to those that the directory brings; fails if one is another.
fn golden(entry: &Entry, model: &LoadedModel) -> Result<String, String> {
    let Some(golden) = Golden::read(&entry.dir).map_err(|problem| problem.to_string())? else {
        return Ok("none to compare with".to_owned());
    };
    let sets = [(Purpose::Document, Some(&golden.vectors)), (Purpose::Query, golden.query_vectors.as_ref())];
    let mut lowest = 1.0_f64;
    let mut compared = 0;
    for (purpose, vectors) in sets {
        for (number, (text, theirs)) in (1..).zip(golden.texts.iter().zip(vectors.into_iter().flatten())) {
            let tokens =
                model.tokenizer.tokenize(text, purpose, model.tokenizer.limit(None)).map_err(explain)?;
            let mut ours = Vec::new();
            model.embed(std::iter::once(&*tokens.ids), &mut ours).map_err(explain)?;
            let cosine = cosine(&ours, theirs);
            if ours.len() != theirs.len() || cosine.is_nan() || cosine < AGREES {
                return Err(format!(
                    "the vectors of model \"{}\" are not those of golden.json\n\
                     detail: text {number} as {purpose:?}: cosine {cosine:.6}, {} dimensions where it has {}",
                    entry.name,
                    ours.len(),
                    theirs.len()
                ));
            }
            lowest = lowest.min(cosine);
            compared += 1;
        }
    }
    Ok(format!("{compared} agree, the lowest cosine is {lowest:.7}"))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
