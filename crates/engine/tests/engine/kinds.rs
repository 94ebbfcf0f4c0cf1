//! Every encoder, tokenizer, pooling, dense layer and prompt computes what sentence-transformers computes.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs;

use proptest::prelude::*;
use serde_json::Value;
use vector_embed_engine::compute::LoadedModel;
use vector_embed_engine::error::Error;
use vector_embed_protocol::Purpose;

use crate::support::{Copy, copy, cosine, golden, json, model};

/// The largest difference of a number. Values are near 1; other orders of summation make a millionth.
const TOLERANCE: f32 = 2e-5;

fn numbers(vector: &Value) -> Vec<f32> {
    vector.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Compares each text's vector, computed alone and in batches of mixed lengths.
fn compare(what: &str, model: &LoadedModel, purpose: Purpose, texts: &[String], golden: &Value) {
    let golden: Vec<Vec<f32>> = golden.as_array().unwrap().iter().map(numbers).collect();
    assert_eq!(golden.len(), texts.len());
    let limit = model.tokenizer.limit(None);
    let tokens: Vec<_> =
        texts.iter().map(|text| model.tokenizer.tokenize(text, purpose, limit).unwrap()).collect();
    for size in [1, 3, texts.len()] {
        for (batch, golden) in tokens.chunks(size).zip(golden.chunks(size)) {
            let mut vectors = Vec::new();
            model.embed(batch.iter().map(|tokens| &*tokens.ids), &mut vectors).unwrap();
            assert_eq!(vectors.len(), golden.iter().map(Vec::len).sum::<usize>(), "{what}");
            for (ours, theirs) in vectors.chunks_exact(model.dimensions).zip(golden) {
                let largest = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // Sums of many tokens are large themselves.
                let scale = theirs.iter().map(|value| value.abs()).fold(1.0, f32::max);
                assert!(largest <= TOLERANCE * scale, "{what}, batches of {size}: off by {largest}");
                assert!(cosine(ours, theirs) >= 0.999_999, "{what}, batches of {size}");
            }
        }
    }
}

#[test]
fn every_fixture_model_computes_its_golden_vectors() {
    let root = golden().join("models");
    let mut names: Vec<String> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let golden = json(&root.join(&name).join("golden.json"));
        let model = model(root.clone(), &name);
        compare(&name, &model, Purpose::Document, &strings(&golden["texts"]), &golden["vectors"]);
    }
}

#[test]
fn every_pooling_dense_layer_and_prompt_computes_its_golden_vectors_behind_every_encoder() {
    let all = json(&golden().join("variants.json"));
    let texts = strings(&all["texts"]);
    let mut seen = BTreeSet::new();
    for (number, variant) in all["variants"].as_array().unwrap().iter().enumerate() {
        let encoder = variant["encoder"].as_str().unwrap();
        // The graphs have tiny-bert's weights, so its vectors are theirs, too.
        let graphs: &[&str] = match encoder {
            "tiny-bert" => &["tiny-bert", "tiny-onnx", "tiny-onnx-notype"],
            other => &[other],
        };
        for base in graphs {
            let copied = Copy::of(base);
            for (file, content) in variant["files"].as_object().unwrap() {
                fs::write(copied.path(file), content.to_string()).unwrap();
            }
            if let Some(dense) = variant["dense"].as_str() {
                copy(&golden().join("dense").join(dense), &copied.path("2_Dense"));
            }
            let model = model(copied.root.path().to_owned(), "model");
            let what = format!("variant {number} on {base}");
            compare(&what, &model, Purpose::Document, &texts, &variant["vectors"]);
            let queries = variant.get("query_vectors").unwrap_or(&variant["vectors"]);
            compare(&what, &model, Purpose::Query, &texts, queries);
        }
        seen.insert((encoder.to_owned(), variant["dense"].is_null(), variant.get("query_vectors").is_some()));
    }
    assert_eq!(seen.len(), 5 * 2 * 2, "{seen:?}");
}

/// How many numbers of a safetensors file of this fixture are read is told by its description.
#[test]
fn shorter_types_of_weights_are_told() {
    let store = crate::store::store(golden().join("models"));
    let format = |name: &str| store.describe(name).unwrap().format;
    assert_eq!(format("tiny-roberta"), "safetensors");
    assert_eq!(format("tiny-roberta-f16"), "safetensors (float16)");
    assert_eq!(format("tiny-xlm-roberta"), "safetensors (bfloat16)");
    assert_eq!(format("tiny-onnx"), "onnx");
}

#[test]
fn normalizations_by_their_old_names_are_found() {
    let copied = Copy::of("tiny-bert");
    let file = copied.path("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk::<8>().unwrap()) as usize;
    let names = String::from_utf8(bytes[8..header].to_vec()).unwrap();
    let renamed = names
        .replace("LayerNorm.weight\":", "LayerNorm.gamma\" :")
        .replace("LayerNorm.bias\":", "LayerNorm.beta\":");
    assert!(renamed.contains("LayerNorm.gamma") && renamed.len() == names.len());
    fs::write(&file, [&bytes[..8], renamed.as_bytes(), &bytes[header..]].concat()).unwrap();
    let golden = json(&golden().join("models/tiny-bert/golden.json"));
    let model = model(copied.root.path().to_owned(), "model");
    compare("gamma", &model, Purpose::Document, &strings(&golden["texts"]), &golden["vectors"]);
}

/// A tokenizer as its file has it, but for truncation and padding.
fn bare(name: &str) -> tokenizers::Tokenizer {
    let file = golden().join("models").join(name).join("tokenizer.json");
    let mut tokenizer = tokenizers::Tokenizer::from_file(file).unwrap();
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).unwrap();
    tokenizer
}

/// The tokens of the whole text, cut to the limit, and whether they were.
fn cut(whole: &tokenizers::Tokenizer, text: &str, limit: usize) -> (Vec<u32>, bool) {
    let whole = whole.encode_fast(text, true).unwrap();
    let (last, first) = whole.get_ids().split_last().unwrap();
    ([&first[..first.len().min(limit - 1)], &[*last]].concat(), whole.len() > limit)
}

/// Of a long text only a beginning is tokenized, and tokens are counted in pieces: both are those of the whole.
#[test]
fn long_texts_have_the_tokens_of_the_whole_whatever_the_tokenizer() {
    let root = golden().join("models");
    for name in ["tiny-bert", "tiny-roberta", "tiny-xlm-roberta", "tiny-mpnet", "tiny-distilbert"] {
        let model = model(root.clone(), name);
        let without = bare(name);
        for text in [
            "The cat sat, twice;  and <mask> then\nit  left 12 times. ",
            "Ёжик несёт яблоко 3 раза in a row ",
            "数据库里有三百万行 and one more ",
            "雨",
            "a <s> b </s>c [SEP] d [CLS]e ",
            "x \u{301}y e\u{301} z ",
        ] {
            let long = text.repeat(60_000 / text.len());
            let limit = model.tokenizer.limit(None);
            let ours = model.tokenizer.tokenize(&long, Purpose::Document, limit).unwrap();
            // Characters without a piece make one unknown word.
            let (ids, truncated) = cut(&without, &long, limit);
            assert_eq!((&*ours.ids, ours.truncated()), (&*ids, truncated), "{name}: {text:?}");
            let (mut total, mut start) = (0, 0);
            while start < long.len() {
                let (count, end) = model.tokenizer.count_piece(&long, start).unwrap();
                (total, start) = (total + count, end);
            }
            assert_eq!(total, without.encode_fast(&*long, true).unwrap().len(), "{name}: {text:?}");
        }
    }
}

/// Parts of long texts: words that go on, what tokenizers drop, and what is never part of a word.
fn stretch() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        prop::sample::select(vec![
            "a",
            "x",
            "ab",
            "aab",
            "the",
            "=",
            "-=",
            "я",
            "ёж",
            "雨",
            "数据",
            "カ",
            "é",
            "e\u{301}",
            "\u{301}",
            "\u{1}",
            " ",
            "\n",
            "\u{3000}",
            "🙂",
            "🇩🇪",
            "👩\u{200d}🔬",
            "'r",
            "1",
            "[CLS]",
            "<s>",
            "</s>",
            "[",
            "Σ",
            "ß",
            "ﬁ",
            "한",
            "\u{1100}\u{1161}",
            "\u{5b0}",
            "ا",
            "\r\n",
            "\u{f8ff}",
            "Word",
            "x y ",
        ])
        .prop_map(str::to_owned),
        "[ -~]{1,12}",
        "\\PC{1,6}",
    ];
    (unit, 1_usize..12_000).prop_map(|(unit, bytes)| unit.repeat(bytes / unit.len() + 1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// However long its words are, a text has the tokens of the whole, or it is said that it is too large.
    #[test]
    fn words_without_end_have_the_tokens_of_the_whole(
        name in prop::sample::select(vec!["tiny-bert", "tiny-roberta", "tiny-xlm-roberta", "tiny-mpnet"]),
        text in prop::collection::vec(stretch(), 1..7).prop_map(|parts| parts.concat()),
        limit in 3_usize..20,
        purpose in prop::sample::select(vec![Purpose::Document, Purpose::Query]),
        sent in 0_usize..60_000,
    ) {
        thread_local! {
            static LOADED: RefCell<HashMap<&'static str, (LoadedModel, tokenizers::Tokenizer)>> = RefCell::default();
        }
        LOADED.with_borrow_mut(|loaded| {
            let (model, whole) = loaded
                .entry(name)
                .or_insert_with(|| (model(golden().join("models"), name), bare(name)));
            let (ids, truncated) = cut(whole, &text, limit);
            let ours = model.tokenizer.tokenize(&text, purpose, limit).unwrap();
            prop_assert_eq!((&*ours.ids, ours.truncated()), (&*ids, truncated));
            // What is certain of a beginning is the whole's, whatever follows.
            let beginning = &text[..text.floor_char_boundary(sent)];
            match model.tokenizer.tokenize_beginning(beginning, purpose, limit) {
                Ok(ours) => prop_assert_eq!((&*ours.ids, ours.truncated()), (&*ids, truncated)),
                Err(Error::MoreNeeded) => {}
                Err(other) => panic!("{other}"),
            }
            Ok(())
        })?;
    }
}
