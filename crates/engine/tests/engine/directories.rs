//! Model directories: what is read, what is refused, and under which name and hash.

use std::fs;

use crate::support::{Copy, runtime};
use vector_embed_engine::compute::load;
use vector_embed_engine::error::Error;
use vector_embed_engine::model::{
    AddError, AddOptions, Added, Catalog, ModelDir, ModelSettings, Pooling, Weights, add, model_hash,
};

impl Copy {
    fn settings(&self) -> ModelSettings {
        ModelSettings::read(&ModelDir::new(self.path(""))).unwrap()
    }

    /// Message and detail of the failure to load it.
    pub(crate) fn failure(&self) -> String {
        let entry = Catalog::new(vec![self.root.path().to_owned()]).find("model").unwrap();
        match load(runtime(), &entry, std::convert::identity) {
            Ok(_) => panic!("the damaged model was loaded"),
            Err(error) => {
                let failure = error.to_failure(0, None);
                assert!(!failure.hint.is_empty());
                assert!(
                    !failure.detail.contains(self.root.path().to_str().unwrap()),
                    "no paths: {}",
                    failure.detail
                );
                format!("{}: {}", failure.message, failure.detail)
            }
        }
    }
}

#[test]
fn the_settings_of_a_directory_are_read_as_sentence_transformers_reads_them() {
    let settings = Copy::of("tiny-bert").settings();
    assert_eq!((settings.max_tokens, settings.dimensions), (48, Some(32)));
    assert_eq!((&*settings.pooling, settings.normalized()), (&[Pooling::Mean][..], true));
    assert!(matches!(settings.weights, Weights::Safetensors(_)));
    assert!(settings.files.is_sorted() && settings.files.contains(&"1_Pooling/config.json".to_owned()));

    let settings = Copy::of("tiny-bert-cls").settings();
    assert_eq!((&*settings.pooling, settings.normalized()), (&[Pooling::Cls][..], false));
    assert_eq!(Copy::of("tiny-onnx").settings().weights, Weights::Onnx("onnx/model.onnx"));
    assert_eq!(Copy::of("tiny-onnx-notype").settings().weights, Weights::Onnx("model.onnx"));
}

#[test]
fn without_modules_the_mean_is_taken_and_nothing_normalized() {
    let model = Copy::of("tiny-bert");
    fs::remove_file(model.path("modules.json")).unwrap();
    let settings = model.settings();
    assert_eq!((&*settings.pooling, settings.normalized()), (&[Pooling::Mean][..], false));
}

#[test]
fn the_newer_layout_of_sentence_transformers_is_read_too() {
    let model = Copy::of("tiny-bert");
    fs::write(model.path("sentence_bert_config.json"), r#"{"transformer_task": "feature-extraction"}"#)
        .unwrap();
    fs::write(model.path("tokenizer_config.json"), r#"{"model_max_length": 40}"#).unwrap();
    fs::write(
        model.path("1_Pooling/config.json"),
        r#"{"embedding_dimension": 32, "pooling_mode": "max", "include_prompt": true}"#,
    )
    .unwrap();
    model.replace(
        "modules.json",
        "sentence_transformers.models.Pooling",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    );
    let settings = model.settings();
    assert_eq!((settings.max_tokens, &*settings.pooling_name(), settings.dimensions), (40, "max", Some(32)));
}

#[test]
fn prompts_are_chosen_as_encode_document_and_encode_query_choose_them() {
    let model = Copy::of("tiny-bert");
    let file = model.path("config_sentence_transformers.json");
    let prompts = |text: &str| {
        fs::write(&file, text).unwrap();
        let settings = model.settings();
        (settings.document_prompt, settings.query_prompt)
    };
    let pair = |document: &str, query: &str| (document.to_owned(), query.to_owned());
    let both = r#"{"prompts": {"query": "find: ", "document": "text: "}, "default_prompt_name": "query"}"#;
    assert_eq!(prompts(both), pair("text: ", "find: "));
    let others =
        r#"{"prompts": {"passage": "p: ", "other": "o: ", "query": null}, "default_prompt_name": "other"}"#;
    assert_eq!(prompts(others), pair("", ""));
    assert_eq!(prompts("{}"), pair("", ""));
}

#[test]
fn a_missing_file_is_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"] {
        let model = Copy::of("tiny-bert");
        fs::remove_file(model.path(file)).unwrap();
        let failure = model.failure();
        assert!(
            failure.starts_with("could not load model \"model\": File \"") && failure.contains(file),
            "{failure}"
        );
    }
}

#[test]
fn a_damaged_file_is_named() {
    for file in ["config.json", "tokenizer.json", "modules.json", "model.safetensors"] {
        let model = Copy::of("tiny-bert");
        let bytes = fs::read(model.path(file)).unwrap();
        fs::write(model.path(file), &bytes[..bytes.len() / 2]).unwrap();
        let failure = model.failure();
        assert!(failure.contains(file), "{failure}");
    }
    let model = Copy::of("tiny-onnx");
    let bytes = fs::read(model.path("onnx/model.onnx")).unwrap();
    fs::write(model.path("onnx/model.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    assert!(model.failure().contains("\"onnx/model.onnx\" is not valid"));
    // A message by its form, and nothing that a graph needs.
    fs::write(model.path("onnx/model.onnx"), [8, 8]).unwrap();
    assert!(model.failure().contains("ONNX Runtime refused the model"));
}

#[test]
fn a_huge_safetensors_header_is_refused() {
    let model = Copy::of("tiny-bert");
    let mut bytes = fs::read(model.path("model.safetensors")).unwrap();
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(model.path("model.safetensors"), bytes).unwrap();
    assert!(model.failure().contains("\"model.safetensors\" is not valid"));
}

#[test]
fn weights_of_another_shape_than_the_configuration_says_are_refused() {
    let model = Copy::of("tiny-bert");
    model.replace("config.json", "\"intermediate_size\": 64", "\"intermediate_size\": 128");
    let failure = model.failure();
    assert!(failure.contains("has shape [64, 32] where [128, 32] is needed"), "{failure}");
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_is_refused() {
    let model = Copy::of("tiny-bert");
    let text = fs::read_to_string(model.path("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["vocab_size"] = 5.into();
    fs::write(model.path("config.json"), config.to_string()).unwrap();
    assert!(model.failure().contains("where the model has 5"));
}

#[test]
fn what_is_not_supported_is_said() {
    let model = Copy::of("tiny-bert");
    model.replace("modules.json", "Normalize", "LSTM");
    assert!(model.failure().contains("LSTM\" is not supported"));
    let model = Copy::of("tiny-bert");
    model.replace("config.json", "\"bert\"", "\"mamba\"");
    assert!(model.failure().contains("Model type \"mamba\" without an ONNX file is not supported"));
    let model = Copy::of("tiny-bert");
    model.replace("config.json", "\"gelu\"", "\"swish\"");
    assert!(model.failure().contains("Activation \"swish\" is not supported"));
    let model = Copy::of("tiny-bert");
    model.replace("sentence_bert_config.json", "48", "4800");
    assert!(model.failure().contains("\"max_seq_length\" of 4800 exceeds 64 positions"));
}

#[test]
fn the_hash_is_that_of_sha256sum_over_the_files_that_count() {
    let model = Copy::of("tiny-bert");
    let dir = ModelDir::new(model.path(""));
    let files = model.settings().files;
    let (hash, bytes) = model_hash(&dir, &files).unwrap();
    let script = format!("cd '{}' && sha256sum -- {} | sha256sum", model.path("").display(), files.join(" "));
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().split_whitespace().next(), Some(&*hash));
    assert_eq!(bytes, files.iter().map(|file| fs::metadata(model.path(file)).unwrap().len()).sum::<u64>());

    fs::write(model.path("README.md"), "words about the model").unwrap();
    assert_eq!(model_hash(&dir, &model.settings().files).unwrap().0, hash, "a readme decides no vector");
    model.replace("sentence_bert_config.json", "48", "47");
    assert_ne!(model_hash(&dir, &files).unwrap().0, hash);
}

#[test]
fn the_catalog_lists_names_only_and_the_first_directory_wins() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["b", "a", ".hidden", "not a name", "ünicode"] {
        fs::create_dir(first.path().join(name)).unwrap();
    }
    fs::write(first.path().join("file"), "").unwrap();
    fs::create_dir(second.path().join("a")).unwrap();
    fs::create_dir(second.path().join("c")).unwrap();
    let missing = first.path().join("no-such-directory");
    let catalog = Catalog::new(vec![missing, first.path().to_owned(), second.path().to_owned()]);
    let names: Vec<String> = catalog.list().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(catalog.find("a").unwrap().dir.path().starts_with(first.path()));
    for name in ["d", "..", "../a", "a/", ".hidden"] {
        let Err(Error::UnknownModel { installed, .. }) = catalog.find(name) else {
            panic!("{name} was found")
        };
        assert_eq!(installed, ["a", "b", "c"]);
    }
}

#[test]
fn adding_is_idempotent_and_never_replaces_other_content() {
    let model = Copy::of("tiny-bert");
    fs::write(model.path("extra.bin"), "not read by the engine, so not copied").unwrap();
    let root = tempfile::tempdir().unwrap();
    let Added::New { hash } = add(&model.path(""), root.path(), "mine", &AddOptions::default()).unwrap()
    else {
        panic!("not new")
    };
    assert_eq!(
        add(&model.path(""), root.path(), "mine", &AddOptions::default()).unwrap(),
        Added::Present { hash }
    );
    assert!(!root.path().join("mine/extra.bin").exists());
    let entry = Catalog::new(vec![root.path().to_owned()]).find("mine").unwrap();
    load(runtime(), &entry, std::convert::identity).map(drop).unwrap();

    let other = Copy::of("tiny-bert-cls");
    assert!(matches!(
        add(&other.path(""), root.path(), "mine", &AddOptions::default()),
        Err(AddError::Exists(_))
    ));
    assert!(matches!(
        add(&other.path(""), root.path(), "../mine", &AddOptions::default()),
        Err(AddError::Name(_))
    ));
    fs::remove_file(other.path("tokenizer.json")).unwrap();
    assert!(matches!(
        add(&other.path(""), root.path(), "other", &AddOptions::default()),
        Err(AddError::Source { .. })
    ));
    let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mine"]);
}
