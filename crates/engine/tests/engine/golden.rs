//! The vectors are those of sentence-transformers.

use crate::support::{cosine, embed, golden, json, model, place, texts};
use vector_embed_engine::compute::LoadedModel;
use vector_embed_protocol::Purpose;

const MODEL: &str = "all-MiniLM-L6-v2";

fn golden_vectors() -> Vec<Vec<f32>> {
    let bytes = std::fs::read(golden().join("all-MiniLM-L6-v2.f32")).unwrap();
    let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    numbers.chunks_exact(384).map(<[f32]>::to_vec).collect()
}

#[test]
fn every_golden_text_has_the_vector_of_sentence_transformers() {
    let model = model(place("VECTOR_EMBED_TEST_MODELS"), MODEL);
    let (texts, golden) = (texts(), golden_vectors());
    assert!(texts.len() >= 300 && texts.len() == golden.len());
    for (text, golden) in texts.iter().zip(&golden) {
        let similarity = cosine(&embed(&model, text), golden);
        assert!(
            similarity >= 0.99999,
            "cosine {similarity} for {:?}",
            text.chars().take(60).collect::<String>()
        );
    }
}

#[test]
fn a_vector_does_not_depend_on_its_batch() {
    let model = model(place("VECTOR_EMBED_TEST_MODELS"), MODEL);
    let golden = golden_vectors();
    let tokens: Vec<_> = texts()
        .iter()
        .map(|text| model.tokenizer.tokenize(text, Purpose::Document, model.tokenizer.limit(None)).unwrap())
        .collect();
    // Neighbours of all lengths, some twenty times as long.
    for (batch, golden) in tokens.chunks(16).zip(golden.chunks(16)) {
        let mut vectors = Vec::new();
        model.embed(batch.iter().map(|tokens| &*tokens.ids), &mut vectors).unwrap();
        for ((tokens, golden), vector) in batch.iter().zip(golden).zip(vectors.chunks_exact(384)) {
            let mut alone = Vec::new();
            model.embed(std::iter::once(&*tokens.ids), &mut alone).unwrap();
            assert!(cosine(vector, &alone) >= 0.999_999);
            assert!(cosine(vector, golden) >= 0.99999);
        }
    }
}

#[test]
fn tokens_are_counted_as_sentence_transformers_counts_them() {
    let model = model(place("VECTOR_EMBED_TEST_MODELS"), MODEL);
    let counts: Vec<usize> = texts().iter().map(|text| count(&model, text)).collect();
    let golden: Vec<usize> = json(&golden().join("all-MiniLM-L6-v2.json"))["token_counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| count.as_u64().unwrap() as usize)
        .collect();
    assert_eq!(counts, golden);
}

fn count(model: &LoadedModel, text: &str) -> usize {
    let (mut total, mut start) = (0, 0);
    loop {
        let (count, end) = model.tokenizer.count_piece(text, start).unwrap();
        (total, start) = (total + count, end);
        if end == text.len() {
            return total;
        }
    }
}

#[test]
fn of_a_long_text_only_the_beginning_is_tokenized_and_all_is_counted() {
    let model = model(place("VECTOR_EMBED_TEST_MODELS"), MODEL);
    let words = "Rain, wind and 雨 on the größte roof: ";
    let (short, long) = (words.repeat(60), words.repeat(30_000));
    assert!(short.len() < 256 * 32 && long.len() > 1 << 20);
    assert_eq!(embed(&model, &short), embed(&model, &long), "both have the same first 256 tokens");
    assert_eq!((count(&model, &long) - 2) * 60, (count(&model, &short) - 2) * 30_000);
    // Without a blank, and with words that are too long to be known.
    assert_eq!(count(&model, &"雨".repeat(40_000)), 40_002);
    assert_eq!(count(&model, &"x".repeat(100_000)), 3);
    for (text, tokens) in
        [("x".repeat(9 << 20), 3), ("雨".repeat(3 << 20), (3 << 20) + 2), (" ".repeat(9 << 20), 2)]
    {
        assert_eq!(count(&model, &text), tokens);
    }
    let (first, second) = ("x".repeat(9_000), "y".repeat(9_000));
    assert_eq!(embed(&model, &first), embed(&model, &second), "one unknown word each");
    let tokens = |other| {
        let limit = model.tokenizer.limit(other);
        model.tokenizer.tokenize(&"a ".repeat(1 << 22), Purpose::Document, limit).unwrap()
    };
    assert!(tokens(None).truncated() && tokens(None).ids.len() == 256);
    // Another limit goes as far as there are positions, and never so low that no token of the text is left.
    let lengths = [128, 512, 100_000, 0].map(|limit| tokens(Some(limit)).ids.len());
    assert_eq!(lengths, [128, 512, 512, 3]);
}
