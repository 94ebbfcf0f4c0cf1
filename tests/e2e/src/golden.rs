//! The reference vectors, see tests/golden/README.md.

use std::fs;
use std::sync::OnceLock;

use serde_json::Value;

use crate::repository;
use crate::vectors::{TRUE_TO_REFERENCE, assert_close};

/// The model that the reference vectors belong to.
pub const MODEL: &str = "all-MiniLM-L6-v2";

/// A text with what the reference implementation says of it.
#[derive(Debug)]
pub struct Golden {
    /// The text.
    pub text: String,
    /// Its vector.
    pub vector: Vec<f32>,
    /// Its tokens before truncation.
    pub tokens: i32,
}

impl Golden {
    /// Fails unless `vector` is this text's.
    pub fn assert_is(&self, vector: &[f32]) {
        assert_close(&self.text, vector, &self.vector, TRUE_TO_REFERENCE);
    }
}

/// All of them.
pub fn all() -> &'static [Golden] {
    static ALL: OnceLock<Vec<Golden>> = OnceLock::new();
    ALL.get_or_init(read)
}

/// Those of an ordinary sentence's length. Their vectors differ, so that a mix-up shows.
pub fn sentences() -> &'static [&'static Golden] {
    static SENTENCES: OnceLock<Vec<&Golden>> = OnceLock::new();
    SENTENCES.get_or_init(|| {
        let sentences: Vec<_> = all().iter().filter(|golden| (8..60).contains(&golden.tokens)).collect();
        assert!(sentences.len() >= 64, "there are enough to tell callers apart");
        sentences
    })
}

/// The texts of several, as arguments of a call.
pub fn texts<'a>(golden: impl IntoIterator<Item = &'a Golden>) -> Vec<&'a str> {
    golden.into_iter().map(|golden| golden.text.as_str()).collect()
}

fn read() -> Vec<Golden> {
    let facts = json(&format!("{MODEL}.json"));
    let dimensions = facts["dimensions"].as_u64().expect("dimensions") as usize;
    let tokens = facts["token_counts"].as_array().expect("token counts");
    let texts = json("texts.json");
    let texts = texts.as_array().expect("an array of texts");
    let bytes = fs::read(repository::golden().join(format!("{MODEL}.f32"))).expect("reference vectors");
    let numbers: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    assert_eq!(numbers.len(), texts.len() * dimensions, "a vector for each text");
    assert_eq!(tokens.len(), texts.len(), "a count for each text");
    texts
        .iter()
        .zip(numbers.chunks_exact(dimensions))
        .zip(tokens)
        .map(|((text, vector), tokens)| Golden {
            text: spelled_out(text),
            vector: vector.to_vec(),
            tokens: tokens.as_i64().expect("a count") as i32,
        })
        .collect()
}

/// An entry is a text, or says how often to repeat one.
fn spelled_out(entry: &Value) -> String {
    match entry {
        Value::String(text) => text.clone(),
        other => {
            let text = other["repeat"].as_str().expect("what is repeated");
            text.repeat(other["times"].as_u64().expect("how often") as usize)
        }
    }
}

/// A file of the reference, parsed.
fn json(name: &str) -> Value {
    let text = fs::read_to_string(repository::golden().join(name)).expect("a reference file");
    serde_json::from_str(&text).expect("valid JSON")
}
