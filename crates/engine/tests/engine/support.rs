//! What the engine's tests share: where the real parts are, and comparing vectors.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use vector_embed_engine::compute::{LoadedModel, Runtime, load};
use vector_embed_engine::model::Catalog;
use vector_embed_protocol::Purpose;

/// A place that `make setup` fills and scripts/cargo names.
pub(crate) fn place(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{variable} is not set: run scripts/cargo test"))
}

/// The folder of golden vectors and fixture models.
pub(crate) fn golden() -> PathBuf {
    // As cargo says when it runs the tests: another clone may have built them.
    place("CARGO_MANIFEST_DIR").join("../../tests/golden")
}

/// The real ONNX Runtime, one for each test program.
pub(crate) fn runtime() -> &'static Arc<Runtime> {
    static RUNTIME: OnceLock<Arc<Runtime>> = OnceLock::new();
    RUNTIME.get_or_init(|| Arc::new(Runtime::new(place("VECTOR_EMBED_TEST_RUNTIME"), 2)))
}

/// A model under `root`.
pub(crate) fn model(root: PathBuf, name: &str) -> LoadedModel {
    let entry = Catalog::new(vec![root]).find(name).unwrap();
    load(runtime(), &entry, std::convert::identity).unwrap()
}

/// A text's vector, computed alone.
pub(crate) fn embed(model: &LoadedModel, text: &str) -> Vec<f32> {
    let tokens = model.tokenizer.tokenize(text, Purpose::Document, model.tokenizer.limit(None)).unwrap();
    let mut vector = Vec::new();
    model.embed(std::iter::once(&*tokens.ids), &mut vector).unwrap();
    vector
}

/// A JSON file of the golden folder.
pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The golden texts, those written as repetitions expanded.
pub(crate) fn texts() -> Vec<String> {
    let expand = |text: &Value| match text {
        Value::String(text) => text.clone(),
        other => other["repeat"].as_str().unwrap().repeat(other["times"].as_u64().unwrap() as usize),
    };
    json(&golden().join("texts.json")).as_array().unwrap().iter().map(expand).collect()
}

/// Cosine similarity.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// A copy of a fixture model, free to be damaged, in a catalog of its own.
pub(crate) struct Copy {
    pub(crate) root: tempfile::TempDir,
}

impl Copy {
    pub(crate) fn of(fixture: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        copy(&golden().join("models").join(fixture), &root.path().join("model"));
        Self { root }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.root.path().join("model").join(file)
    }

    pub(crate) fn change_json(&self, file: &str, change: impl FnOnce(&mut Value)) {
        let mut content = json(&self.path(file));
        change(&mut content);
        fs::write(self.path(file), content.to_string()).unwrap();
    }

    pub(crate) fn replace(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(self.path(file), text.replace(from, to)).unwrap();
    }
}

/// Copies a directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}
