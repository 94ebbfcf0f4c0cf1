//! Model directories made to do harm: each is refused with a reason, without reading or computing much.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use vector_embed_engine::compute::load;
use vector_embed_engine::model::{AddError, AddOptions, Catalog, ModelDir, ModelSettings, add, model_hash};
use vector_embed_protocol::Purpose;

use crate::support::{Copy, golden, runtime};

/// Replaces the header of a safetensors file, and leaves its data.
fn change_header(model: &Copy, file: &str, change: impl Fn(&mut Value)) {
    let bytes = fs::read(model.path(file)).unwrap();
    let end = 8 + u64::from_le_bytes(*bytes.first_chunk::<8>().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    change(&mut header);
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(model.path(file), [&length, header.as_bytes(), &bytes[end..]].concat()).unwrap();
}

#[test]
fn headers_that_lie_are_refused() {
    let words = "distilbert.embeddings.word_embeddings.weight";
    let lies: [(&str, Value); 7] = [
        (
            "offsets behind the end",
            json!({"dtype": "F32", "shape": [360, 16], "data_offsets": [0, 1_u64 << 40]}),
        ),
        ("offsets backwards", json!({"dtype": "F32", "shape": [360, 16], "data_offsets": [23040, 0]})),
        (
            "more numbers than bytes",
            json!({"dtype": "F32", "shape": [1_u64 << 40, 16], "data_offsets": [0, 23040]}),
        ),
        (
            "more numbers than there are",
            json!({"dtype": "F32", "shape": [1_u64 << 63, 1_u64 << 63], "data_offsets": [0, 23040]}),
        ),
        ("no numbers", json!({"dtype": "F32", "shape": [0, 16], "data_offsets": [0, 0]})),
        ("another type", json!({"dtype": "I32", "shape": [360, 16], "data_offsets": [0, 23040]})),
        ("an unknown type", json!({"dtype": "Q9", "shape": [360, 16], "data_offsets": [0, 23040]})),
    ];
    for (what, lie) in lies {
        let model = Copy::of("tiny-distilbert");
        change_header(&model, "model.safetensors", |header| header[words] = lie.clone());
        let failure = model.failure();
        assert!(
            failure.contains("model.safetensors") || failure.contains("word_embeddings"),
            "{what}: {failure}"
        );
    }
}

#[test]
fn a_header_larger_than_any_model_has_is_not_parsed() {
    let model = Copy::of("tiny-bert");
    let header = format!("{{{}}}", " ".repeat(17 << 20));
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    fs::write(model.path("model.safetensors"), bytes).unwrap();
    assert!(model.failure().contains("its header has 17825794 bytes"));
}

#[test]
fn weights_that_are_not_numbers_are_refused() {
    for bits in [f32::NAN, f32::INFINITY] {
        let model = Copy::of("tiny-distilbert");
        let mut bytes = fs::read(model.path("model.safetensors")).unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&bits.to_le_bytes());
        fs::write(model.path("model.safetensors"), bytes).unwrap();
        assert!(model.failure().contains("has a number that is not finite"));
    }
}

#[test]
fn weights_that_no_number_can_hold_the_products_of_give_no_vector() {
    let model = Copy::of("tiny-bert");
    let path = model.path("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let is_scored = |name: &str| name.ends_with("query.weight") || name.ends_with("key.weight");
    let scored: Vec<&Value> = header
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| is_scored(name))
        .map(|(_, tensor)| tensor)
        .collect();
    assert!(!scored.is_empty());
    for tensor in scored {
        let [begin, end] = [0, 1].map(|side| tensor["data_offsets"][side].as_u64().unwrap() as usize);
        for number in bytes[8 + length..][begin..end].chunks_exact_mut(4) {
            let value = f32::from_le_bytes(number.try_into().unwrap()) * 1e20;
            number.copy_from_slice(&value.to_le_bytes());
        }
    }
    fs::write(&path, bytes).unwrap();
    let entry = Catalog::new(vec![model.root.path().to_owned()]).find("model").unwrap();
    let loaded = load(runtime(), &entry, std::convert::identity).unwrap();
    let tokens = loaded.tokenizer.tokenize("a word", Purpose::Query, loaded.tokenizer.limit(None)).unwrap();
    let error = loaded.embed(std::iter::once(&*tokens.ids), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("could not compute"), "{error}");
    assert!(format!("{error:?}").contains("a number that is not finite"), "{error:?}");
}

#[test]
fn sizes_beyond_all_memory_are_refused_before_memory_is_taken() {
    for (key, value) in [
        ("dim", 1_u64 << 20),
        ("dim", 1_u64 << 62),
        ("hidden_dim", 1 << 61),
        ("n_layers", u64::MAX >> 1),
        ("vocab_size", 1 << 62),
        ("max_position_embeddings", 1 << 62),
    ] {
        let model = Copy::of("tiny-distilbert");
        model.change_json("config.json", |config| config[key] = value.into());
        model.failure();
    }
    let model = Copy::of("tiny-onnx");
    model.change_json("config.json", |config| config["max_position_embeddings"] = (1_u64 << 62).into());
    model.change_json("sentence_bert_config.json", |config| config["max_seq_length"] = (1_u64 << 61).into());
    assert!(model.failure().contains("is too large"));
    let model = Copy::of("tiny-onnx");
    let dimension = |config: &mut Value| config["word_embedding_dimension"] = (1_u64 << 61).into();
    model.change_json("1_Pooling/config.json", dimension);
    assert!(model.failure().contains("length of token vectors"));
}

#[test]
fn files_larger_than_such_files_are_or_than_memory_are_not_read() {
    for (fixture, file, bytes) in [
        ("tiny-bert", "tokenizer.json", 1_u64 << 30),
        ("tiny-bert", "config.json", 1 << 30),
        ("tiny-bert", "1_Pooling/config.json", 1 << 30),
        // As large as a file may be here, without taking room.
        ("tiny-bert", "model.safetensors", 1 << 43),
        ("tiny-onnx", "onnx/model.onnx", 1 << 43),
    ] {
        let model = Copy::of(fixture);
        File::options().write(true).open(model.path(file)).unwrap().set_len(bytes).unwrap();
        let failure = model.failure();
        assert!(failure.contains(&format!("File \"{file}\" has {bytes} bytes where at most")), "{failure}");
        let settings = ModelSettings::read(&ModelDir::new(model.path("")));
        assert!(settings.is_err(), "it is not hashed either");
    }
}

#[test]
fn paths_that_leave_the_directory_are_refused() {
    for path in ["/etc", "..", "../other", "1_Pooling/../..", "./1_Pooling", "", "/"] {
        let model = Copy::of("tiny-bert");
        model.change_json("modules.json", |modules| modules[1]["path"] = path.into());
        let failure = model.failure();
        assert!(failure.contains("\"modules.json\" is not valid: the path"), "{path}: {failure}");
    }
}

#[test]
fn links_out_of_the_directory_are_refused_and_not_copied() {
    let elsewhere = tempfile::tempdir().unwrap();
    let fixture = golden().join("models/tiny-bert");
    for file in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling"] {
        let model = Copy::of("tiny-bert");
        let outside = elsewhere.path().join(file);
        let inner = if file == "1_Pooling" {
            fs::remove_dir_all(model.path(file)).unwrap();
            fs::create_dir(&outside).unwrap();
            fs::copy(fixture.join("1_Pooling/config.json"), outside.join("config.json")).unwrap();
            "1_Pooling/config.json"
        } else {
            fs::remove_file(model.path(file)).unwrap();
            fs::copy(fixture.join(file), &outside).unwrap();
            file
        };
        symlink(&outside, model.path(file)).unwrap();
        let expected = format!("\"{inner}\" could not be read: it is a symbolic link that leads out");
        assert!(model.failure().contains(&expected), "{}", model.failure());
        let root = tempfile::tempdir().unwrap();
        let added = add(&model.path(""), root.path(), "copy", &AddOptions::default());
        assert!(matches!(added, Err(AddError::Source { .. })));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}

#[test]
fn links_to_a_model_within_a_model_and_within_the_hubs_cache_are_followed() {
    let model = Copy::of("tiny-bert");
    // An administrator's link to a directory elsewhere.
    let root = tempfile::tempdir().unwrap();
    symlink(model.path(""), root.path().join("linked")).unwrap();
    let linked = Catalog::new(vec![root.path().to_owned()]).find("linked").unwrap();
    load(runtime(), &linked, std::convert::identity).map(drop).unwrap();

    fs::rename(model.path("tokenizer.json"), model.path("renamed.json")).unwrap();
    symlink("renamed.json", model.path("tokenizer.json")).unwrap();
    ModelSettings::read(&ModelDir::new(model.path(""))).unwrap();

    // models--org--name/snapshots/REVISION/file -> ../../blobs/HASH
    let cache = root.path().join("models--org--name");
    let snapshot = cache.join("snapshots/0123");
    fs::create_dir_all(snapshot.join("1_Pooling")).unwrap();
    fs::create_dir(cache.join("blobs")).unwrap();
    let files =
        ["config.json", "tokenizer.json", "model.safetensors", "modules.json", "1_Pooling/config.json"];
    for (number, file) in files.iter().enumerate() {
        let up = "../".repeat(2 + file.matches('/').count());
        fs::copy(golden().join("models/tiny-bert").join(file), cache.join(format!("blobs/{number}")))
            .unwrap();
        symlink(format!("{up}blobs/{number}"), snapshot.join(file)).unwrap();
    }
    let dir = ModelDir::new(&snapshot);
    let settings = ModelSettings::read(&dir).unwrap();
    model_hash(&dir, &settings.files).unwrap();
    // The cache holds other models, too.
    fs::write(root.path().join("secret"), "{}").unwrap();
    symlink("../../../secret", snapshot.join("tokenizer_config.json")).unwrap();
    assert!(ModelSettings::read(&dir).unwrap_err().to_string().contains("leads out of the directory"));
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let model = Copy::of("tiny-bert");
        fs::remove_file(model.path(file)).unwrap();
        assert!(Command::new("mkfifo").arg(model.path(file)).status().unwrap().success());
        let failure = model.failure();
        // The weights are looked for among regular files.
        assert!(failure.contains("is not a regular file") || failure.contains("is missing"), "{failure}");
    }
}

#[test]
fn deep_and_endless_json_is_refused() {
    for file in ["config.json", "tokenizer.json", "modules.json", "config_sentence_transformers.json"] {
        for text in ["[".repeat(500_000), format!("{}1{}", "{\"a\":".repeat(500_000), "}".repeat(500_000))] {
            let model = Copy::of("tiny-bert");
            fs::write(model.path(file), &text).unwrap();
            if text.starts_with('[') {
                assert!(model.failure().contains(&format!("\"{file}\" is not valid")), "{file}");
            } else {
                // Names that nobody asks for are passed over, however deep; what is needed may be missing then.
                survives(&model);
            }
        }
    }
    let model = Copy::of("tiny-bert");
    let header = "[".repeat(500_000);
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    fs::write(model.path("model.safetensors"), bytes).unwrap();
    assert!(model.failure().contains("\"model.safetensors\" is not valid"));
}

/// A field of a protobuf message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

#[test]
fn graphs_with_tensors_in_files_elsewhere_are_refused() {
    let place = |turned: bool, value: &str| {
        let parts = [field(1, b"location"), field(2, value.as_bytes())];
        field(13, &if turned { [&*parts[1], &*parts[0]].concat() } else { parts.concat() })
    };
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), [0; 64]).unwrap();
    let secret = secret.path().to_str().unwrap();
    for turned in [false, true] {
        for location in [secret, "../secret", "weights.bin"] {
            let model = Copy::of("tiny-onnx");
            fs::write(model.path("secret"), [0; 64]).unwrap();
            fs::write(model.path("onnx/weights.bin"), [0; 64]).unwrap();
            // One more initializer, in a message that a reader joins with the first.
            let tensor =
                [&[8, 1, 16, 1][..], &field(8, b"added"), &place(turned, location), &[14 << 3, 1]].concat();
            let node = [field(1, b"added"), field(2, b"sum"), field(4, b"Identity")].concat();
            let output = field(1, b"sum");
            let graph = [field(1, &node), field(5, &tensor), field(12, &output)].concat();
            let mut bytes = fs::read(model.path("onnx/model.onnx")).unwrap();
            bytes.extend(field(7, &graph));
            fs::write(model.path("onnx/model.onnx"), bytes).unwrap();
            let failure = model.failure();
            assert!(failure.contains("tensors in another file than \"model.onnx_data\""), "{failure}");
        }
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let model = Copy::of("tiny-bert");
    fs::remove_file(model.path("tokenizer.json")).unwrap();
    fs::remove_file(model.path("1_Pooling/config.json")).unwrap();
    fs::write(model.path("sentence_bert_config.json"), "{").unwrap();
    model.change_json("config.json", |config| config["hidden_act"] = "swish".into());
    let problems = ModelSettings::survey(&ModelDir::new(model.path(""))).unwrap_err();
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for what in ["tokenizer.json", "1_Pooling/config.json", "sentence_bert_config.json", "\"swish\""] {
        assert!(told.iter().any(|problem| problem.contains(what)), "{what}: {told:?}");
    }
    assert_eq!(told.len(), 4, "{told:?}");
}

/// A model that may have been damaged either computes or is refused, and computes finite numbers only.
fn survives(model: &Copy) {
    let entry = Catalog::new(vec![model.root.path().to_owned()]).find("model").unwrap();
    let Ok(loaded) = load(runtime(), &entry, std::convert::identity) else { return };
    let tokens = loaded.tokenizer.tokenize("a word", Purpose::Query, loaded.tokenizer.limit(None)).unwrap();
    let mut vectors = Vec::new();
    if loaded.embed(std::iter::once(&*tokens.ids), &mut vectors).is_ok() {
        assert!(vectors.len() == loaded.dimensions && vectors.iter().all(|number| number.is_finite()));
    }
}

/// What stands in the place of some value of a JSON file.
fn hostile_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!("")),
        Just(json!("../../etc/passwd")),
        Just(json!([])),
        Just(json!({"a": [[[1]]]})),
        Just(json!(1e308)),
        Just(json!(u64::MAX)),
        Just(json!(i64::MIN)),
        Just(json!(true)),
        (0_u64..70).prop_map(|number| json!(number)),
        (0_u32..64).prop_map(|bits| json!(1_u64 << bits)),
        "[a-z_./]{0,12}".prop_map(|text| json!(text)),
    ]
}

/// Puts `value` in the place of the value number `place`, counted through all of `json`.
fn put(json: &mut Value, place: &mut usize, value: &Value) {
    if *place == 0 {
        *json = value.clone();
        *place = usize::MAX;
        return;
    }
    *place -= 1;
    let inner: Vec<&mut Value> = match json {
        Value::Array(all) => all.iter_mut().collect(),
        Value::Object(all) => all.values_mut().collect(),
        _ => Vec::new(),
    };
    for inner in inner {
        if *place < usize::MAX / 2 {
            put(inner, place, value);
        }
    }
}

fn header_of(fixture: &str) -> &'static [u8] {
    static HEADER: OnceLock<Vec<u8>> = OnceLock::new();
    HEADER.get_or_init(|| fs::read(golden().join("models").join(fixture).join("model.safetensors")).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_headers_are_survived(edits in prop::collection::vec((0_usize..3600, any::<u8>()), 1..6)) {
        let model = Copy::of("tiny-distilbert");
        let mut bytes = header_of("tiny-distilbert").to_vec();
        for (place, byte) in edits {
            bytes[place] = byte;
        }
        fs::write(model.path("model.safetensors"), bytes).unwrap();
        survives(&model);
    }

    #[test]
    fn lying_headers_are_survived(tensor in 0_usize..40, part in 0_usize..5, value in hostile_value()) {
        let model = Copy::of("tiny-distilbert");
        change_header(&model, "model.safetensors", |header| {
            let all = header.as_object_mut().unwrap();
            let name = all.keys().nth(tensor % all.len()).unwrap().clone();
            put(&mut all[&name], &mut part.clone(), &value);
        });
        survives(&model);
    }

    #[test]
    fn hostile_configurations_are_survived(
        file in prop::sample::select(vec![
            "config.json", "modules.json", "sentence_bert_config.json", "tokenizer_config.json",
            "1_Pooling/config.json", "config_sentence_transformers.json",
        ]),
        fixture in prop::sample::select(vec!["tiny-mpnet", "tiny-distilbert", "tiny-onnx"]),
        places in prop::collection::vec((0_usize..24, hostile_value()), 1..4),
    ) {
        let model = Copy::of(fixture);
        if !model.path(file).exists() {
            fs::write(model.path(file), r#"{"prompts": {"query": "q"}, "default_prompt_name": null}"#).unwrap();
        }
        model.change_json(file, |content| {
            for (mut place, value) in places.clone() {
                put(content, &mut place, &value);
            }
        });
        survives(&model);
    }
}
