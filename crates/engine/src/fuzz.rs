//! What `fuzz/` throws bytes at.

use std::panic::catch_unwind;
use std::path::Path;

use vector_embed_protocol::Purpose;

use crate::compute::{TextTokenizer, read_weights};
use crate::model::{ModelDir, ModelSettings};

/// The files of a model that [`model_files`] reads.
pub const FILES: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
];

/// Reads bytes as a safetensors file, and all that it says it has.
pub fn weights(bytes: &[u8]) {
    // Whatever comes of it.
    let _ = read_weights(bytes);
}

/// Reads a model directory, its weights apart. What its tokenizer makes of a text keeps to the limit that was read.
pub fn model_files(directory: &Path) {
    let directory = ModelDir::new(directory);
    let Ok(settings) = ModelSettings::read(&directory) else { return };
    // A panic within another's code is caught where models are loaded.
    let read = catch_unwind(|| TextTokenizer::read("fuzzed", &directory, &settings));
    let Ok(Ok(tokenizer)) = read else { return };
    for text in ["", "a cat [SEP] é", &"rain falls ".repeat(200)] {
        let limit = tokenizer.limit(None);
        let tokens = catch_unwind(|| tokenizer.tokenize(text, Purpose::Query, limit));
        if let Ok(Ok(tokens)) = tokens {
            assert!(tokens.ids.len() <= limit, "{} tokens of {limit}", tokens.ids.len());
        }
    }
}
