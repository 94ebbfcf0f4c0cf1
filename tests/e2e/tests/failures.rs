//! What is missing or damaged is told with SQLSTATE and hint, and works again once repaired: same session, same
//! server.

use std::fs;
use std::path::Path;

use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::fixtures;
use vector_embed_e2e::golden;
use vector_embed_e2e::installation::{Installation, move_away, replace};
use vector_embed_e2e::process::{self, Signal};
use vector_embed_e2e::sql::{assert_error, backend, embed, embed_by, refused};
use vector_embed_e2e::wait;

const TINY: &str = "tiny-bert";
/// SQLSTATE config_file_error.
const BAD_MODEL: &str = "F0000";
/// SQLSTATE system_error.
const NO_ENGINE: &str = "58000";

/// Has `damage` done to an installation, expects the error, has it repaired and expects a vector; first in a server
/// that has not embedded yet, then in one whose engine has the model in memory.
fn tells_and_recovers(state: &str, says: &str, model: &str, damage: impl Fn(&Installation) -> Repair) {
    let installation = Installation::copy();
    installation.add_model(&fixtures::source(TINY));
    let cluster = Cluster::with().installation(&installation).start();
    let mut client = cluster.connect();
    let session = backend(&mut client);
    for _ in 0..2 {
        let repair = damage(&installation);
        // An engine looks at a model's files again when it has served it for a second.
        let error = wait::found("the damage is noticed", || {
            embed_by(&mut client, "cat", model).err().and_then(|error| error.as_db_error().cloned())
        });
        assert_error(&error, state);
        let told = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        assert!(told.contains(says), "{says:?} is not mentioned in {error:?}");
        repair();
        let vector = embed_by(&mut client, "cat", model).expect("a vector, once repaired");
        assert_eq!(vector.len(), if model == TINY { 32 } else { 384 });
        assert_eq!(backend(&mut client), session);
    }
}

type Repair = Box<dyn FnOnce()>;

fn without(path: &Path) -> Repair {
    let away = move_away(path);
    Box::new(move || away.put_back())
}

fn with_contents(path: &Path, contents: &[u8]) -> Repair {
    let away = move_away(path);
    replace(path, contents, 0o644);
    Box::new(move || away.put_back())
}

#[test]
fn a_missing_model_directory() {
    tells_and_recovers("42704", TINY, TINY, |installation| without(&installation.model(TINY)));
}

#[test]
fn a_broken_config_json() {
    tells_and_recovers(BAD_MODEL, "config.json", TINY, |installation| {
        with_contents(&installation.model(TINY).join("config.json"), b"{\"model_type\": \"bert\", ")
    });
}

#[test]
fn a_missing_tokenizer_json() {
    tells_and_recovers(BAD_MODEL, "tokenizer.json", TINY, |installation| {
        without(&installation.model(TINY).join("tokenizer.json"))
    });
}

#[test]
fn a_truncated_safetensors_file() {
    tells_and_recovers(BAD_MODEL, "model.safetensors", TINY, |installation| {
        let path = installation.model(TINY).join("model.safetensors");
        let whole = fs::read(&path).expect("the weights");
        with_contents(&path, &whole[..whole.len() / 2])
    });
}

#[test]
fn an_empty_safetensors_file() {
    tells_and_recovers(BAD_MODEL, "model.safetensors", TINY, |installation| {
        with_contents(&installation.model(TINY).join("model.safetensors"), b"")
    });
}

#[test]
fn a_tensor_of_another_shape() {
    tells_and_recovers(BAD_MODEL, "word_embeddings", TINY, |installation| {
        let path = installation.model(TINY).join("model.safetensors");
        let whole = fs::read(&path).expect("the weights");
        with_contents(&path, &transposed_word_embeddings(&whole))
    });
}

/// The file begins with the length of a JSON text that tells each tensor's shape.
fn transposed_word_embeddings(file: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).expect("valid JSON");
    let mut header = header;
    let shape = &mut header["embeddings.word_embeddings.weight"]["shape"];
    assert_eq!(*shape, serde_json::json!([600, 32]));
    *shape = serde_json::json!([32, 600]);
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &file[8 + length..]].concat()
}

#[test]
fn a_missing_onnx_runtime() {
    // In memory it stays when its file goes, so the engine is started anew.
    tells_and_recovers(NO_ENGINE, "libonnxruntime.so", TINY, |installation| {
        end_engines_of(installation);
        without(&installation.runtime())
    });
}

#[test]
fn an_onnx_runtime_that_is_none() {
    tells_and_recovers(NO_ENGINE, "libonnxruntime.so", TINY, |installation| {
        end_engines_of(installation);
        with_contents(&installation.runtime(), b"not a shared library")
    });
}

#[test]
fn a_missing_engine() {
    tells_and_recovers(NO_ENGINE, "vector_embed_engine", TINY, |installation| {
        let repair = without(&installation.engine());
        end_engines_of(installation);
        repair
    });
}

#[test]
fn an_engine_that_cannot_be_executed() {
    tells_and_recovers(NO_ENGINE, "vector_embed_engine", TINY, |installation| {
        let repair = with_contents(&installation.engine(), b"\x7fELF and no more");
        end_engines_of(installation);
        repair
    });
}

#[test]
fn an_engine_that_ends_at_once() {
    tells_and_recovers(NO_ENGINE, "exit code 3", TINY, |installation| {
        let away = move_away(&installation.engine());
        replace(&installation.engine(), b"#!/bin/sh\nexit 3\n", 0o755);
        end_engines_of(installation);
        Box::new(move || away.put_back())
    });
}

/// Ends the engine, if one runs, as a crash would.
fn end_engines_of(installation: &Installation) {
    let path = installation.engine();
    let path = path.to_string_lossy();
    for pid in process::all().into_iter().filter(|pid| process::title(*pid).starts_with(&*path)) {
        process::send(pid, Signal::KILL);
        wait::until("the engine is gone", || !process::is_alive(pid));
    }
}

#[test]
fn an_unknown_model_is_told_with_those_there_are() {
    let installation = Installation::copy();
    installation.add_model(&fixtures::source(TINY));
    let cluster = Cluster::with().installation(&installation).start();
    let mut client = cluster.connect();
    let error = refused(embed_by(&mut client, "cat", "no-such-model"));
    let hint = assert_error(&error, "42704");
    assert!(error.message().contains("no-such-model"), "{error:?}");
    assert!(hint.contains(golden::MODEL) && hint.contains(TINY), "{hint}");
}

#[test]
fn without_any_model_the_hint_tells_how_to_add_one() {
    let installation = Installation::copy();
    let away = move_away(&installation.model(golden::MODEL));
    let cluster = Cluster::with().installation(&installation).start();
    let mut client = cluster.connect();
    let hint = assert_error(&refused(embed(&mut client, "cat")), "42704");
    assert!(hint.contains("vector_embed_engine model add"), "{hint}");
    away.put_back();
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
}
