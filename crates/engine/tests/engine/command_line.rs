//! The executable as a DBA uses it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{cosine, embed, golden, model, place};

/// Runs the engine with the real runtime and models in `root`; returns whether it succeeded and what it printed.
fn engine(root: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    engine_with(&place("VECTOR_EMBED_TEST_RUNTIME"), root, arguments, input)
}

fn engine_with(runtime: &Path, root: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vector_embed_engine"))
        .env("HOME", home.path())
        .args(arguments)
        .arg("--models")
        .arg(root)
        .arg("--runtime")
        .arg(runtime)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    // ONNX Runtime would keep a telemetry database in a folder of its maker.
    assert_eq!(
        std::fs::read_dir(home.path()).unwrap().count(),
        0,
        "the engine writes nothing to the home folder"
    );
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_model_is_added_listed_checked_and_used() {
    let root = tempfile::tempdir().unwrap();
    let source = golden().join("models/tiny-bert");
    let source = source.to_str().unwrap();

    let (ok, said) = engine(root.path(), &["model", "add", source, "--name", "tiny"], "");
    assert!(ok && said.starts_with("added model \"tiny\" with hash "), "{said}");
    let (ok, said) = engine(root.path(), &["model", "add", source, "--name", "tiny"], "");
    assert!(ok && said.contains("was there already"), "{said}");
    let other = golden().join("models/tiny-bert-cls");
    let (ok, said) = engine(root.path(), &["model", "add", other.to_str().unwrap(), "--name", "tiny"], "");
    assert!(!ok && said.contains("exists with other content"), "{said}");

    let (ok, said) = engine(root.path(), &["model", "list"], "");
    assert!(ok && said.starts_with("tiny\t32 dimensions\t48 tokens\t"), "{said}");
    let (ok, said) = engine(root.path(), &["model", "check", "tiny"], "");
    assert!(ok && said.contains("dimensions      32") && said.contains("tokens/s"), "{said}");

    let (ok, said) = engine(root.path(), &["embed", "--model", "tiny"], "first line\nsecond line\n");
    assert!(ok);
    let tiny = model(root.path().to_owned(), "tiny");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2);
    for (line, text) in lines.iter().zip(["first line", "second line"]) {
        let printed: Vec<f32> = serde_json::from_str(line).unwrap();
        assert!(cosine(&printed, &embed(&tiny, text)) > 0.999_999);
    }
}

#[test]
fn what_a_directory_lacks_is_said() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("empty")).unwrap();
    let (ok, said) = engine(root.path(), &["model", "check", "empty"], "");
    assert!(!ok && said.contains("\"tokenizer.json\" is missing"), "{said}");
    let (ok, said) = engine(root.path(), &["model", "list"], "");
    assert!(ok && said.contains("empty\tunusable"), "{said}");
    let (ok, said) = engine(root.path(), &["model", "check", "absent"], "");
    assert!(
        !ok && said.contains("model \"absent\" does not exist") && said.contains("Installed models: empty"),
        "{said}"
    );
}

#[test]
fn a_missing_or_damaged_runtime_is_told_from_a_bad_model() {
    let root = golden().join("models");
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("libonnxruntime.so");
    for _ in ["missing", "damaged"] {
        let (ok, said) = engine_with(&library, &root, &["model", "check", "tiny-bert"], "");
        assert!(
            !ok && said.contains("could not load ONNX Runtime from") && said.contains("hint: "),
            "{said}"
        );
        std::fs::write(&library, "not a library").unwrap();
    }
}
