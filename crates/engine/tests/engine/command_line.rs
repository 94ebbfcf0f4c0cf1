//! The executable as a DBA uses it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Copy, cosine, embed, golden, model, place};

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
fn a_model_is_added_in_another_precision_and_compared_with_fp32() {
    let root = tempfile::tempdir().unwrap();
    let source = golden().join("models/tiny-bert");
    let add = ["model", "add", source.to_str().unwrap(), "--name", "tiny-int8", "--precision", "int8"];
    let (ok, said) = engine(root.path(), &add, "");
    assert!(ok && said.starts_with("added model \"tiny-int8\" with hash "), "{said}");
    let (ok, said) = engine(root.path(), &["model", "check", "tiny-int8"], "");
    assert!(ok && said.contains("precision       int8\n"), "{said}");
    assert!(said.contains("against fp32    ") && said.contains(" × the speed; cosine 0.99"), "{said}");
    let (ok, said) = engine(root.path(), &[&add[..6], &["int4"]].concat(), "");
    assert!(!ok && said.contains("int4"), "{said}");
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
    assert!(said.contains(" % of what its matrix products alone reach in fp32\n"), "{said}");

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

#[test]
fn prompts_are_installed_with_the_model_and_count_for_its_hash() {
    let root = tempfile::tempdir().unwrap();
    let source = Copy::of("tiny-bert");
    let source = source.path("");
    let add = |more: &[&str]| {
        let arguments = [&["model", "add", source.to_str().unwrap(), "--name", "asking"], more].concat();
        engine(root.path(), &arguments, "")
    };
    let prompts = ["--query-prompt", "find: ", "--document-prompt", "text: "];
    let (ok, said) = add(&prompts);
    assert!(ok && said.starts_with("added model \"asking\""), "{said}");
    let (ok, said) = add(&prompts);
    assert!(ok && said.contains("was there already"), "{said}");
    for other in
        [&[][..], &["--query-prompt", "find: "], &["--query-prompt", "find: ", "--document-prompt", ""]]
    {
        let (ok, said) = add(other);
        assert!(!ok && said.contains("exists with other content"), "{said}");
    }
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing half done is left");

    let (ok, said) = engine(root.path(), &["model", "check", "asking"], "");
    // The golden vectors were made without a prompt.
    assert!(!ok && said.contains("are not those of golden.json"), "{said}");
    std::fs::remove_file(root.path().join("asking/golden.json")).unwrap();
    let (ok, said) = engine(root.path(), &["model", "check", "asking"], "");
    assert!(ok && said.contains("document prompt \"text: \"\nquery prompt    \"find: \"\n"), "{said}");
    assert!(said.contains("golden vectors  none to compare with"), "{said}");
    let (ok, said) = engine(root.path(), &["embed", "--model", "asking"], "first line\n");
    assert!(ok, "{said}");
    let printed: Vec<f32> = serde_json::from_str(said.trim_end()).unwrap();
    let plain = model(golden().join("models"), "tiny-bert");
    assert!(cosine(&printed, &embed(&plain, "text: first line")) > 0.999_999);
}

#[test]
fn a_prompt_that_the_model_brings_is_kept_unless_another_is_given() {
    let root = tempfile::tempdir().unwrap();
    let source = Copy::of("tiny-bert");
    let brought = r#"{"prompts": {"query": "q: ", "document": "d: ", "other": "o: "}, "version": {"a": 1}}"#;
    std::fs::write(source.path("config_sentence_transformers.json"), brought).unwrap();
    let source = source.path("");
    let arguments = ["model", "add", source.to_str().unwrap(), "--name", "new", "--query-prompt", ""];
    let (ok, said) = engine(root.path(), &arguments, "");
    assert!(ok, "{said}");
    let written = std::fs::read(root.path().join("new/config_sentence_transformers.json")).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    let expected =
        serde_json::json!({"prompts": {"query": "", "document": "d: ", "other": "o: "}, "version": {"a": 1}});
    assert_eq!(written, expected);
}

#[test]
fn check_compares_with_the_vectors_that_a_model_brings() {
    let root = golden().join("models");
    for name in ["tiny-bert", "tiny-mpnet", "tiny-roberta-f16", "tiny-onnx-pooled"] {
        let (ok, said) = engine(&root, &["model", "check", name], "");
        assert!(ok && said.contains("golden vectors  13 agree, the lowest cosine is 1.000"), "{said}");
    }
    let copied = Copy::of("tiny-bert");
    copied.change_json("golden.json", |all| all["vectors"][2] = all["vectors"][3].clone());
    copied.change_json("golden.json", |all| all["vectors"][3] = all["vectors"][4].clone());
    let (ok, said) = engine(copied.root.path(), &["model", "check", "model"], "");
    assert!(!ok && said.contains("text 4 as Document: cosine "), "{said}");
}

#[test]
fn check_tells_all_that_a_directory_lacks() {
    let copied = Copy::of("tiny-bert");
    for file in ["tokenizer.json", "model.safetensors"] {
        std::fs::remove_file(copied.path(file)).unwrap();
    }
    let (ok, said) = engine(copied.root.path(), &["model", "check", "model"], "");
    assert!(!ok && said.contains("for 2 reasons"), "{said}");
    assert!(
        said.contains("\"tokenizer.json\" is missing") && said.contains("\"model.safetensors\""),
        "{said}"
    );
}
