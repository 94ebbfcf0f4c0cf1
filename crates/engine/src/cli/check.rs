//! `model check`.

use std::convert::identity;
use std::time::Instant;

use crate::compute::{LoadedModel, Products, Runtime, load, load_with};
use crate::error::{Error, ModelProblem};
use crate::model::{Catalog, Entry, Golden, ModelSettings, Precision, Weights, describe_format, model_hash};
use vector_embed_protocol::Purpose;

use super::{Places, explain, print};

/// Texts of ordinary length to measure with.
const SAMPLE: &str =
    "A database keeps what it was told, also when the lights go out in the middle of a sentence.";
/// Texts of a batch.
const BATCH: usize = 8;
/// Short texts of many kinds, to compare the vectors of two precisions.
const SAMPLES: [&str; 12] = [
    SAMPLE,
    "Bread",
    "The night train to the coast leaves at ten past eleven from platform four.",
    "SELECT count(*) FROM orders WHERE paid IS NULL;",
    "Who repairs old clocks in this town?",
    "A child drew a blue horse. Her teacher asked whether horses are blue. They are, she said, in the evening.",
    "connection refused: is the server running on that host and accepting connections?",
    "Salt keeps fish for the winter; smoke does, too, and tastes better.",
    "Wie weit ist es von hier bis zum Hafen?",
    "Зимой река замерзает, и дети катаются на коньках.",
    "今年的稻子比去年熟得早。",
    "Prices rose by 3.5 % in May, 2 % in June and not at all in July.",
];

/// Below this cosine a vector is another one, see ARCHITECTURE.md.
fn agrees(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 0.99999,
        // Real models reach 0.9999.
        Precision::Bf16 => 0.99,
        // Real models reach 0.99, those of random numbers less.
        Precision::Int8 => 0.95,
    }
}

/// Loads the model, computes with it, and prints what it is.
pub(super) fn check(name: &str, places: &Places) -> Result<(), String> {
    let entry = Catalog::new(places.models()?).find(name).map_err(explain)?;
    let settings = ModelSettings::survey(&entry.dir).map_err(|problems| lacks(name, problems))?;
    let runtime = places.runtime(&entry)?;
    let start = Instant::now();
    let model = load(&runtime, &entry, identity).map_err(explain)?;
    let loaded = start.elapsed();
    let (hash, bytes) = model_hash(&entry.dir, &settings.files).map_err(|problem| problem.to_string())?;
    let architecture = match &settings.weights {
        Weights::Safetensors(shape) => format!(
            "{:?}, {} layers, {} heads, {} wide",
            shape.architecture, shape.layers, shape.heads, shape.hidden
        ),
        Weights::Onnx(file) => (*file).to_owned(),
    };
    let of_fp32 = match settings.precision {
        Precision::Fp32 => None,
        _ => Some(compare_with_fp32(
            &model,
            &load_with(&runtime, &entry, Some(Precision::Fp32), identity).map_err(explain)?,
        )?),
    };
    let rows = [
        ("model", name.to_owned()),
        ("format", describe_format(&entry.dir, &settings)),
        ("graph", architecture),
        ("precision", settings.precision.name().to_owned()),
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
        ("speed", speed(&model, &runtime, &entry)?),
        ("golden vectors", golden(&entry, &model, agrees(settings.precision))?),
    ];
    let of_fp32 = of_fp32.map(|text| ("against fp32", text));
    rows.iter().chain(&of_fp32).try_for_each(|(label, value)| print(&format!("{label:<16}{value}\n")))
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

/// Tokens a second in batches of eight, and how near that comes to products with the weights alone. The two run in
/// turns; medians count. Fails if a vector is not finite.
fn speed(model: &LoadedModel, runtime: &Runtime, entry: &Entry) -> Result<String, String> {
    let ids = tokens(model, SAMPLE, Purpose::Document)?;
    let mut products = Products::of(runtime, entry, BATCH * ids.len()).map_err(explain)?;
    let (mut times, mut shares) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        let time = time_batch(model, &ids)?;
        times.push(time);
        if let Some(products) = &mut products {
            let start = Instant::now();
            products.compute().map_err(explain)?;
            shares.push(100.0 * start.elapsed().as_secs_f64() / time);
        }
    }
    let rate = (BATCH * ids.len()) as f64 / median(times);
    let mut text = format!("{rate:.0} tokens/s on {} threads", runtime.threads());
    if products.is_some() {
        let share = median(shares);
        text.push_str(&format!(", {share:.0} % of what its matrix products alone reach in fp32"));
    }
    Ok(text)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds that a batch of equal texts takes.
fn time_batch(model: &LoadedModel, ids: &[u32]) -> Result<f64, String> {
    let start = Instant::now();
    model.embed(std::iter::repeat_n(ids, BATCH), &mut Vec::new()).map_err(explain)?;
    Ok(start.elapsed().as_secs_f64())
}

/// Speed and vectors of a model against those of the same model with fp32. The two run in turns.
fn compare_with_fp32(model: &LoadedModel, exact: &LoadedModel) -> Result<String, String> {
    let ids = tokens(model, SAMPLE, Purpose::Document)?;
    let mut ratios = Vec::new();
    for _ in 0..15 {
        ratios.push(time_batch(exact, &ids)? / time_batch(model, &ids)?);
    }
    let mut cosines = Vec::new();
    for text in SAMPLES {
        cosines
            .push(cosine(&embed(model, text, Purpose::Document)?, &embed(exact, text, Purpose::Document)?));
    }
    let lowest = cosines.iter().copied().fold(1.0, f64::min);
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let (speed, count) = (median(ratios), cosines.len());
    Ok(format!("{speed:.2} × the speed; cosine {mean:.4} on average, {lowest:.4} at least, of {count} texts"))
}

fn tokens(model: &LoadedModel, text: &str, purpose: Purpose) -> Result<Box<[u32]>, String> {
    let tokens = model.tokenizer.tokenize(text, purpose, model.tokenizer.limit(None)).map_err(explain)?;
    Ok(tokens.ids)
}

fn embed(model: &LoadedModel, text: &str, purpose: Purpose) -> Result<Vec<f32>, String> {
    let ids = tokens(model, text, purpose)?;
    let mut vector = Vec::new();
    model.embed(std::iter::once(&*ids), &mut vector).map_err(explain)?;
    Ok(vector)
}

/// How near the model's vectors are to those that the directory brings; fails if one is another.
fn golden(entry: &Entry, model: &LoadedModel, agrees: f64) -> Result<String, String> {
    let Some(golden) = Golden::read(&entry.dir).map_err(|problem| problem.to_string())? else {
        return Ok("none to compare with".to_owned());
    };
    let sets = [(Purpose::Document, Some(&golden.vectors)), (Purpose::Query, golden.query_vectors.as_ref())];
    let mut lowest = 1.0_f64;
    let mut compared = 0;
    for (purpose, vectors) in sets {
        for (number, (text, theirs)) in (1..).zip(golden.texts.iter().zip(vectors.into_iter().flatten())) {
            let ours = embed(model, text, purpose)?;
            let cosine = cosine(&ours, theirs);
            if ours.len() != theirs.len() || cosine.is_nan() || cosine < agrees {
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
