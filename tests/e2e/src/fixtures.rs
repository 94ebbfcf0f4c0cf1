//! The tiny models of tests/golden/models.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::account::output;
use crate::{repository, run};

/// A model with texts and the vectors it must compute for them.
#[derive(Debug)]
pub struct Fixture {
    /// Its name.
    pub name: String,
    /// Texts and their vectors.
    pub golden: Vec<(String, Vec<f32>)>,
}

/// Where the fixture of this name is in the repository.
pub fn source(name: &str) -> PathBuf {
    repository::golden().join("models").join(name)
}

/// All of them, by name.
pub fn all() -> Vec<Fixture> {
    let directory = repository::golden().join("models");
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("the fixtures can be listed")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.into_iter().map(read).collect()
}

/// A copy of all fixtures that servers can read.
pub fn copy() -> PathBuf {
    let target = run::new_path("models");
    output(Command::new("cp").arg("-r").arg(repository::golden().join("models")).arg(&target));
    target
}

fn read(name: String) -> Fixture {
    let text = fs::read_to_string(source(&name).join("golden.json")).expect("a fixture has golden.json");
    let json: Value = serde_json::from_str(&text).expect("valid JSON");
    let texts = json["texts"].as_array().expect("texts");
    let vectors = json["vectors"].as_array().expect("vectors");
    assert_eq!(texts.len(), vectors.len(), "a vector for each text");
    let golden = texts
        .iter()
        .zip(vectors)
        .map(|(text, vector)| {
            let numbers = vector.as_array().expect("a vector").iter();
            let vector = numbers.map(|number| number.as_f64().expect("a number") as f32).collect();
            (text.as_str().expect("a text").to_owned(), vector)
        })
        .collect();
    Fixture { name, golden }
}
