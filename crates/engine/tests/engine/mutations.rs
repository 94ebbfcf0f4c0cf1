//! What the fuzz targets do, for a moment and without a fuzzer: real files with random damage.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use vector_embed_engine::fuzz::{FILES, model_files, weights};

use crate::support::{Copy, golden, place};

/// A change of a file.
#[derive(Debug, Clone)]
enum Damage {
    Byte(usize, u8),
    Cut(usize, usize),
    Twice(usize, usize),
    Word(usize, &'static str),
}

fn damage() -> impl Strategy<Value = Damage> {
    let word = prop::sample::select(vec![
        "null",
        "-1",
        "1e999",
        "18446744073709551615",
        "9223372036854775808",
        "{",
        "[",
        "]",
        "}",
        "\"",
        "\\ud800",
        "\0",
        "[[[[[[[[",
        "true",
        ".5",
        "../",
        "\u{301}",
        "0",
    ]);
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(place, byte)| Damage::Byte(place, byte)),
        (any::<usize>(), 1_usize..200).prop_map(|(place, length)| Damage::Cut(place, length)),
        (any::<usize>(), 1_usize..200).prop_map(|(place, length)| Damage::Twice(place, length)),
        (any::<usize>(), word).prop_map(|(place, word)| Damage::Word(place, word)),
    ]
}

fn damaged(whole: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for damage in damages {
        let (Damage::Byte(place, _)
        | Damage::Cut(place, _)
        | Damage::Twice(place, _)
        | Damage::Word(place, _)) = damage;
        let place = place % (bytes.len() + 1);
        match damage {
            Damage::Byte(_, byte) => bytes.iter_mut().skip(place).take(1).for_each(|it| *it = *byte),
            Damage::Cut(_, length) => drop(bytes.drain(place..(place + length).min(bytes.len()))),
            Damage::Twice(_, length) => {
                let part = bytes[place..(place + length).min(bytes.len())].to_vec();
                bytes.splice(place..place, part);
            }
            Damage::Word(_, word) => drop(bytes.splice(place..place, word.bytes())),
        }
    }
    bytes
}

/// A file of the product's own model, or else of the fixture.
fn seed(file: &str) -> Vec<u8> {
    let real: PathBuf = place("VECTOR_EMBED_TEST_MODELS").join("all-MiniLM-L6-v2").join(file);
    let fixture: PathBuf = golden().join("models/tiny-mpnet").join(file);
    [real, fixture].iter().find_map(|path| fs::read(path).ok()).unwrap_or_else(|| b"{}".to_vec())
}

/// The header of a safetensors file, and a little of what follows.
fn head(file: &Path) -> Vec<u8> {
    let whole = fs::read(file).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    whole[..(8 + header + (64 << 10)).min(whole.len())].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_of_real_models_are_read_or_refused(
        file in prop::sample::select(FILES.to_vec()), damages in prop::collection::vec(damage(), 1..5),
    ) {
        let model = Copy::of("tiny-mpnet");
        // Large vocabularies take long to parse, and damage of a small one goes deeper.
        let whole = match file {
            "tokenizer.json" => fs::read(model.path(file)).unwrap(),
            _ => seed(file),
        };
        fs::create_dir_all(model.path(file).parent().unwrap()).unwrap();
        fs::write(model.path(file), damaged(&whole, &damages)).unwrap();
        model_files(&model.path(""));
    }

    #[test]
    fn damaged_weights_of_real_models_are_read_or_refused(
        real in any::<bool>(), damages in prop::collection::vec(damage(), 1..5), within_header in any::<bool>(),
    ) {
        let file = match real {
            true => place("VECTOR_EMBED_TEST_MODELS").join("all-MiniLM-L6-v2/model.safetensors"),
            false => golden().join("models/tiny-mpnet/model.safetensors"),
        };
        let whole = head(&file);
        let bytes = match within_header {
            // With a length that fits what the header has become.
            true => {
                let header = damaged(&whole[8..whole.len().min(4096)], &damages);
                [&(header.len() as u64).to_le_bytes(), &*header, &whole].concat()
            }
            false => damaged(&whole, &damages),
        };
        weights(&bytes);
    }
}

#[test]
fn whole_files_are_read() {
    let model = Copy::of("tiny-mpnet");
    model_files(&model.path(""));
    weights(&fs::read(model.path("model.safetensors")).unwrap());
    for file in FILES {
        let bytes = seed(file);
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok(), "{file}");
    }
}
