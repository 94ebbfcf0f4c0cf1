//! Models in memory and their hashes.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::support::{Copy, runtime};
use vector_embed_engine::error::{Error, ModelProblem};
use vector_embed_engine::model::{Catalog, ModelDir, Revision};
use vector_embed_engine::schedule::{Limits, ModelStore};
use vector_embed_protocol::{FailureCode, is_model_hash};

/// A store of the models below `root`.
pub(crate) fn store(root: impl Into<PathBuf>) -> ModelStore {
    let catalog = Catalog::new(vec![root.into()]);
    ModelStore::new(catalog, Arc::clone(runtime()), std::convert::identity, Limits::NONE)
}

/// Another model: it takes the first token's vector where it took the mean.
pub(crate) fn change_pooling(model: &Copy) {
    let text = r#"{"word_embedding_dimension": 32, "pooling_mode": "cls"}"#;
    fs::write(model.path("new"), text).unwrap();
    fs::rename(model.path("new"), model.path("1_Pooling/config.json")).unwrap();
}

fn hash(store: &ModelStore) -> String {
    let hash = store.describe("model").unwrap().hash;
    assert!(is_model_hash(&hash), "{hash}");
    hash
}

#[test]
fn a_model_of_the_expected_hash_is_given_and_another_refused() {
    let copy = Copy::of("tiny-bert");
    let store = store(copy.root.path());
    let right = hash(&store);
    let model = store.get_expected("model", &right).unwrap();
    assert_eq!(model.revision.known_hash().unwrap().digits, right);

    let Err(error) = store.get_expected("model", &"0".repeat(64)) else { panic!("another hash was taken") };
    let failure = error.to_failure(1, None);
    assert_eq!(failure.code, FailureCode::Drifted);
    assert_eq!(failure.message, "model \"model\" is not the one that the stored vectors were made with");
    assert!(
        failure.detail.contains(&right[..12]) && failure.detail.contains(" 000000000000."),
        "{failure:?}"
    );
    assert!(Arc::ptr_eq(&model, &store.get("model").unwrap()), "the model stays in memory");
}

#[test]
fn the_files_that_are_there_now_decide_when_the_loaded_ones_are_not_expected() {
    let copy = Copy::of("tiny-bert");
    let store = store(copy.root.path());
    let first = hash(&store);
    let loaded = store.get_expected("model", &first).unwrap();
    change_pooling(&copy);
    let second = hash(&store);
    assert_ne!(first, second);
    // At once, not when the files would be looked at again.
    let reloaded = store.get_expected("model", &second).unwrap();
    assert_ne!(loaded.revision.id(), reloaded.revision.id());
    assert!(matches!(store.get_expected("model", &first), Err(Error::Drifted { .. })));
}

#[test]
fn a_model_replaced_before_it_was_hashed_does_not_get_the_hash_of_its_successor() {
    let copy = Copy::of("tiny-bert");
    let store = store(copy.root.path());
    let old = store.get("model").unwrap();
    change_pooling(&copy);
    assert!(matches!(old.revision.hash(), Err(ModelProblem::Changed)));
    let new = store.get_expected("model", &hash(&store)).unwrap();
    assert_ne!(old.revision.id(), new.revision.id());
    assert_eq!(old.revision.known_hash(), None);
}

#[test]
fn a_revision_ends_with_any_change_that_counts() {
    let copy = Copy::of("tiny-bert");
    let dir = ModelDir::new(copy.path(""));
    let read = || Revision::read(&dir).unwrap().0;
    let first = read();
    fs::write(copy.path("README.md"), "words about the model").unwrap();
    assert!(first.is_current() && first.is_same_as(&read()));
    // A file that was looked for and was not there.
    fs::write(copy.path("config_sentence_transformers.json"), r#"{"prompts": {"query": "find: "}}"#).unwrap();
    assert!(!first.is_current() && !first.is_same_as(&read()));
}

#[test]
fn one_model_is_described_without_looking_at_the_others() {
    let copy = Copy::of("tiny-bert");
    fs::create_dir(copy.root.path().join("damaged")).unwrap();
    let store = store(copy.root.path());
    let info = store.describe("model").unwrap();
    assert_eq!(store.list()[1], info);
    assert_eq!((info.dimensions, info.max_tokens, info.loaded), (32, 48, false));
    assert_eq!((&*info.format, &*info.precision), ("safetensors", "fp32"));

    // What is said of one that does not work is what embedding with it would say.
    for (name, code) in [("damaged", FailureCode::BadModel), ("missing", FailureCode::UnknownModel)] {
        let failures = [store.describe(name).err().unwrap(), store.get(name).err().unwrap()];
        let [described, loaded] = failures.map(|error| error.to_failure(1, None));
        assert_eq!(described, loaded);
        assert_eq!(described.code, code);
    }
}
