//! Other precisions than fp32: near to it, and as independent of the batch.

use std::fs;
use std::path::Path;

use vector_embed_engine::compute::{LoadedModel, load};
use vector_embed_engine::model::{
    AddError, AddOptions, Added, Catalog, ModelDir, ModelSettings, Precision, add,
};
use vector_embed_protocol::Purpose;

use crate::support::{Copy, cosine, golden, json, model, place, runtime, texts};

const NAME: &str = "eight-bits";

fn add_with(source: &Path, root: &Path, name: &str, precision: Precision) -> Result<Added, AddError> {
    add(source, root, name, &AddOptions { precision: Some(precision), ..AddOptions::default() })
}

fn hash(added: Added) -> String {
    let (Added::New { hash } | Added::Present { hash }) = added;
    hash
}

/// The vectors of texts in batches of `size`, and each text's alone.
fn embed_in_batches(model: &LoadedModel, texts: &[String], size: usize) -> Vec<[Vec<f32>; 2]> {
    let limit = model.tokenizer.limit(None);
    let tokens = |text: &String| model.tokenizer.tokenize(text, Purpose::Document, limit).unwrap().ids;
    let ids: Vec<_> = texts.iter().map(tokens).collect();
    let mut all = Vec::new();
    for batch in ids.chunks(size) {
        let mut vectors = Vec::new();
        model.embed(batch.iter().map(|row| &**row), &mut vectors).unwrap();
        for (row, vector) in batch.iter().zip(vectors.chunks_exact(model.dimensions)) {
            let mut alone = Vec::new();
            model.embed(std::iter::once(&**row), &mut alone).unwrap();
            all.push([vector.to_vec(), alone]);
        }
    }
    all
}

#[test]
fn int8_is_near_to_fp32_and_independent_of_the_batch() {
    let source = place("VECTOR_EMBED_TEST_MODELS");
    let root = tempfile::tempdir().unwrap();
    add_with(&source.join("all-MiniLM-L6-v2"), root.path(), NAME, Precision::Int8).unwrap();
    let eight_bits = model(root.path().to_owned(), NAME);
    let exact = model(source, "all-MiniLM-L6-v2");
    // Neighbours of all lengths.
    let texts = texts();
    let theirs = embed_in_batches(&exact, &texts, 16);
    let mut cosines = Vec::new();
    for ([batched, alone], [exact, _]) in embed_in_batches(&eight_bits, &texts, 16).iter().zip(&theirs) {
        assert!(cosine(batched, alone) >= 0.999_999);
        cosines.push(cosine(batched, exact));
    }
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let lowest = cosines.iter().copied().fold(1.0, f64::min);
    assert!(mean >= 0.995 && lowest >= 0.98, "cosine {mean} on average, {lowest} at least");
}

#[test]
fn int8_is_near_to_fp32_behind_every_encoder() {
    for base in
        ["tiny-bert", "tiny-bert-cls", "tiny-roberta", "tiny-xlm-roberta", "tiny-distilbert", "tiny-mpnet"]
    {
        let root = tempfile::tempdir().unwrap();
        let source = golden().join("models").join(base);
        add_with(&source, root.path(), NAME, Precision::Int8).unwrap();
        let (exact, eight_bits) = (model(golden().join("models"), base), model(root.path().to_owned(), NAME));
        let texts: Vec<String> =
            serde_json::from_value(json(&source.join("golden.json"))["texts"].take()).unwrap();
        let theirs = embed_in_batches(&exact, &texts, 5);
        for ([batched, alone], [exact, _]) in embed_in_batches(&eight_bits, &texts, 5).iter().zip(&theirs) {
            assert!(cosine(batched, alone) >= 0.999_999, "{base}");
            assert!(cosine(batched, exact) >= 0.99, "{base}: {}", cosine(batched, exact));
            assert_ne!(batched, exact, "{base}");
        }
    }
}

#[test]
fn a_precision_is_part_of_a_models_identity() {
    let root = tempfile::tempdir().unwrap();
    let source = golden().join("models/tiny-bert");
    let plain = hash(add(&source, root.path(), "plain", &AddOptions::default()).unwrap());
    let eight_bits = hash(add_with(&source, root.path(), NAME, Precision::Int8).unwrap());
    assert_ne!(plain, eight_bits);
    assert!(matches!(add_with(&source, root.path(), "plain", Precision::Int8), Err(AddError::Exists(_))));
    // What is copied keeps its precision unless told otherwise; fp32 leaves no trace.
    let installed = root.path().join(NAME);
    assert_eq!(hash(add(&installed, root.path(), "again", &AddOptions::default()).unwrap()), eight_bits);
    assert_eq!(hash(add_with(&installed, root.path(), "back", Precision::Fp32).unwrap()), plain);
    assert_eq!(ModelSettings::read(&ModelDir::new(&installed)).unwrap().precision, Precision::Int8);
}

#[test]
fn what_cannot_be_computed_in_a_precision_is_refused_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let source = golden().join("models/tiny-onnx");
    let Err(AddError::Source { problem, .. }) = add_with(&source, root.path(), NAME, Precision::Int8) else {
        panic!("added")
    };
    assert_eq!(problem.to_string(), "precision int8 of an ONNX graph is not supported");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);

    for content in [r#"{"precision": "int4"}"#, r#"{"precision": "int8", "more": 1}"#, "[]", ""] {
        let copied = Copy::of("tiny-bert");
        fs::write(copied.path("vector_embed.json"), content).unwrap();
        let entry = Catalog::new(vec![copied.root.path().to_owned()]).find("model").unwrap();
        let Err(error) = load(runtime(), &entry, std::convert::identity) else {
            panic!("{content} was loaded")
        };
        assert!(error.to_failure(0, None).detail.contains("vector_embed.json"), "{content}: {error:?}");
    }
}
