//! Models with bf16, by the optional runtime. A program of its own: a process has one runtime.

#[allow(dead_code)]
#[path = "engine/support.rs"]
mod support;

use std::convert::identity;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use support::{cosine, embed, golden, json, place, texts};
use vector_embed_engine::compute::{LoadedModel, Runtime, load, load_with};
use vector_embed_engine::error::Error;
use vector_embed_engine::model::{AddError, AddOptions, Catalog, Precision, Weights, add};
use vector_embed_engine::model::{ModelDir, ModelSettings};
use vector_embed_protocol::Purpose;

const NAME: &str = "sixteen-bits";

fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The optional runtime, if it is there and of use; otherwise tells which test is left out.
fn openvino(test: &str) -> Option<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let library = std::env::var_os("VECTOR_EMBED_TEST_OPENVINO").map(PathBuf::from);
    let reason = match library {
        Some(library) if multiplies_bf16() => {
            return Some(RUNTIME.get_or_init(|| Runtime::with_openvino(library, 2)));
        }
        Some(_) => "the processor has no AVX512_BF16",
        None => "the optional runtime is not there (scripts/download openvino)",
    };
    // Not by a macro, whose output is kept from the one who runs the tests.
    let _ = writeln!(std::io::stderr(), "skipped: bf16::{test}: {reason}");
    None
}

fn load_in(runtime: &Runtime, root: &Path, name: &str, precision: Precision) -> LoadedModel {
    let entry = Catalog::new(vec![root.to_owned()]).find(name).unwrap();
    load_with(runtime, &entry, Some(precision), identity).unwrap()
}

#[test]
fn it_is_near_to_fp32_and_to_itself_in_any_batch() {
    let Some(runtime) = openvino("it_is_near_to_fp32_and_to_itself_in_any_batch") else { return };
    let models = place("VECTOR_EMBED_TEST_MODELS");
    let root = tempfile::tempdir().unwrap();
    let options = AddOptions { precision: Some(Precision::Bf16), ..AddOptions::default() };
    add(&models.join("all-MiniLM-L6-v2"), root.path(), NAME, &options).unwrap();
    let entry = Catalog::new(vec![root.path().to_owned()]).find(NAME).unwrap();
    let model = load(runtime, &entry, identity).unwrap();
    // The library computes fp32, too, so that the two can be compared.
    let exact = load_in(runtime, &models, "all-MiniLM-L6-v2", Precision::Fp32);
    // Neighbours of all lengths.
    let texts = texts();
    let limit = model.tokenizer.limit(None);
    let tokens = |text: &String| model.tokenizer.tokenize(text, Purpose::Document, limit).unwrap().ids;
    let ids: Vec<_> = texts.iter().map(tokens).collect();
    let mut in_batches = Vec::new();
    for batch in ids.chunks(7) {
        model.embed(batch.iter().map(|row| &**row), &mut in_batches).unwrap();
    }
    for (text, vector) in texts.iter().zip(in_batches.chunks_exact(model.dimensions)) {
        let shown: String = text.chars().take(40).collect();
        let alone = embed(&model, text);
        let exact = embed(&exact, text);
        assert!(cosine(vector, &exact) >= 0.9995, "{shown}: {}", cosine(vector, &exact));
        assert!(alone != exact, "{shown} is computed in bf16");
        // Sums are rounded to 16 bits in between, and padding changes their order.
        assert!(cosine(vector, &alone) >= 0.9999, "{shown}: {}", cosine(vector, &alone));
        assert_eq!(alone, embed(&model, text), "{shown} is computed alike each time");
    }
}

#[test]
fn it_computes_every_kind_of_encoder() {
    let Some(runtime) = openvino("it_computes_every_kind_of_encoder") else { return };
    let models = golden().join("models");
    let mut seen = 0;
    for entry in Catalog::new(vec![models.clone()]).list() {
        let settings = ModelSettings::read(&entry.dir).unwrap();
        if !matches!(settings.weights, Weights::Safetensors(_)) {
            continue;
        }
        let model = load_in(runtime, &models, &entry.name, Precision::Bf16);
        let golden = json(&models.join(&entry.name).join("golden.json"));
        let vectors = golden["vectors"].as_array().unwrap();
        for (text, vector) in golden["texts"].as_array().unwrap().iter().zip(vectors) {
            let numbers = vector.as_array().unwrap().iter();
            let expected: Vec<f32> = numbers.map(|number| number.as_f64().unwrap() as f32).collect();
            let cosine = cosine(&embed(&model, text.as_str().unwrap()), &expected);
            assert!(cosine >= 0.999, "{}: {cosine} for {text}", entry.name);
        }
        seen += 1;
    }
    assert!(seen >= 6, "{seen} kinds");
}

#[test]
fn each_runtime_knows_which_models_are_not_its_own() {
    let plain = Runtime::new("libonnxruntime.so", 1);
    let openvino = Runtime::with_openvino("libonnxruntime.so", 1);
    for (runtime, precision, serves) in [
        (&plain, Precision::Fp32, true),
        (&plain, Precision::Int8, true),
        (&plain, Precision::Bf16, false),
        (&openvino, Precision::Fp32, false),
        (&openvino, Precision::Int8, false),
        (&openvino, Precision::Bf16, true),
    ] {
        let result = runtime.check_serves(NAME, precision);
        assert_eq!(result.is_ok(), serves, "{precision:?}");
        assert!(serves || matches!(result, Err(Error::OtherEngine { .. })), "{precision:?}");
    }
}

#[test]
fn without_the_processor_it_is_refused_with_the_reason() {
    if multiplies_bf16() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: bf16::without_the_processor_it_is_refused_with_the_reason: this one has AVX512_BF16"
        );
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let options = AddOptions { precision: Some(Precision::Bf16), ..AddOptions::default() };
    let source = golden().join("models/tiny-bert");
    let Err(AddError::Source { problem, .. }) = add(&source, root.path(), NAME, &options) else {
        panic!("added")
    };
    assert_eq!(problem.to_string(), "precision bf16 on a processor without AVX512_BF16 is not supported");
    assert!(ModelSettings::read(&ModelDir::new(&source)).is_ok());
}
