//! The models in memory.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use vector_embed_protocol::ModelInfo;

use crate::compute::{Decorate, LoadedModel, Runtime, load};
use crate::error::{Error, ModelProblem};
use crate::model::{Catalog, Entry, ModelHash, ModelSettings, Revision, describe_format};

/// How long a loaded model is served before its files are looked at again.
const RECHECK: Duration = Duration::from_secs(1);

/// How often a model is read again because its files change meanwhile.
const READS: usize = 5;

/// Loads models when they are first asked for, and anew when their files were replaced.
pub struct ModelStore {
    catalog: Catalog,
    runtime: Arc<Runtime>,
    decorate: Decorate,
    loaded: Mutex<HashMap<String, Loaded>>,
    /// The last revision seen in each directory: it may know its hash.
    revisions: Mutex<HashMap<PathBuf, Arc<Revision>>>,
}

struct Loaded {
    model: Arc<LoadedModel>,
    checked: Instant,
}

impl ModelStore {
    /// A store of the models in `catalog`.
    pub fn new(catalog: Catalog, runtime: Arc<Runtime>, decorate: Decorate) -> Self {
        Self { catalog, runtime, decorate, loaded: Mutex::default(), revisions: Mutex::default() }
    }

    /// Threads that compute one batch.
    pub fn threads(&self) -> usize {
        self.runtime.threads()
    }

    /// The model of this name if it is in memory and its files are what they were.
    pub fn get_loaded(&self, name: &str) -> Option<Arc<LoadedModel>> {
        let (model, checked) =
            self.lock().get(name).map(|loaded| (Arc::clone(&loaded.model), loaded.checked))?;
        if checked.elapsed() < RECHECK {
            return Some(model);
        }
        if !self.is_current(&model) {
            self.forget(&model);
            return None;
        }
        if let Some(loaded) = self.lock().get_mut(name) {
            loaded.checked = Instant::now();
        }
        Some(model)
    }

    /// The model of this name, loaded if necessary. Failures are not remembered.
    pub fn get(&self, name: &str) -> Result<Arc<LoadedModel>, Error> {
        if let Some(model) = self.get_loaded(name) {
            return Ok(model);
        }
        let entry = self.catalog.find(name)?;
        let load = || load(&self.runtime, &entry, self.decorate);
        let panicked = |_| Err(Error::bad_model(name, ModelProblem::Refused("its code panicked".to_owned())));
        let mut model = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(panicked)?;
        model.revision = self.share(model.revision);
        let model = Arc::new(model);
        let loaded = Loaded { model: Arc::clone(&model), checked: Instant::now() };
        self.lock().insert(name.to_owned(), loaded);
        Ok(model)
    }

    /// The model of this name, loaded if necessary, whose hash is `expected`; its files may be read for that.
    pub fn get_expected(&self, name: &str, expected: &str) -> Result<Arc<LoadedModel>, Error> {
        for _ in 0..READS {
            let model = self.get(name)?;
            match model.revision.hash() {
                Ok(hash) if hash.digits == expected => return Ok(model),
                Ok(hash) if self.is_current(&model) => {
                    let (hash, expected) = (hash.digits.clone(), expected.to_owned());
                    return Err(Error::Drifted { name: name.to_owned(), hash, expected });
                }
                // The files were replaced after it was loaded: those that are there now decide.
                Ok(_) | Err(ModelProblem::Changed) => self.forget(&model),
                Err(problem) => return Err(Error::bad_model(name, problem)),
            }
        }
        Err(Error::bad_model(name, ModelProblem::Changed))
    }

    fn is_current(&self, model: &LoadedModel) -> bool {
        self.catalog.find(&model.name).is_ok_and(|entry| model.is_current(&entry))
    }

    fn forget(&self, model: &Arc<LoadedModel>) {
        let mut loaded = self.lock();
        if loaded.get(&model.name).is_some_and(|loaded| Arc::ptr_eq(&loaded.model, model)) {
            loaded.remove(&model.name);
        }
    }

    /// What the directory of the model of this name says. The model is not loaded.
    pub fn describe(&self, name: &str) -> Result<ModelInfo, Error> {
        let entry = self.catalog.find(name)?;
        self.read(&entry).map_err(|problem| Error::bad_model(name, problem))
    }

    /// The installed models with what their directories say, unusable ones included.
    pub fn list(&self) -> Vec<ModelInfo> {
        let unusable = |entry: &Entry, problem: &ModelProblem| ModelInfo {
            name: entry.name.clone(),
            problem: problem.to_string(),
            ..ModelInfo::default()
        };
        let entries = self.catalog.list();
        entries
            .iter()
            .map(|entry| self.read(entry).unwrap_or_else(|problem| unusable(entry, &problem)))
            .collect()
    }

    fn read(&self, entry: &Entry) -> Result<ModelInfo, ModelProblem> {
        for _ in 1..READS {
            match self.read_once(entry) {
                Err(ModelProblem::Changed) => {}
                result => return result,
            }
        }
        self.read_once(entry)
    }

    fn read_once(&self, entry: &Entry) -> Result<ModelInfo, ModelProblem> {
        let (revision, settings) = Revision::read(&entry.dir)?;
        let revision = self.share(Arc::new(revision));
        Ok(self.info(entry, settings, revision.hash()?))
    }

    fn info(&self, entry: &Entry, settings: ModelSettings, hash: &ModelHash) -> ModelInfo {
        let loaded = self.lock().get(&entry.name).map(|loaded| Arc::clone(&loaded.model));
        let dimensions = loaded.as_ref().map(|model| model.dimensions).or(settings.dimensions).unwrap_or(0);
        let format = describe_format(&entry.dir, &settings);
        ModelInfo {
            name: entry.name.clone(),
            dimensions: dimensions as u32,
            max_tokens: settings.max_tokens as u32,
            pooling: settings.pooling_name(),
            normalized: settings.normalized(),
            document_prompt: settings.document_prompt,
            query_prompt: settings.query_prompt,
            format,
            bytes: hash.bytes,
            hash: hash.digits.clone(),
            loaded: loaded.is_some(),
            problem: String::new(),
        }
    }

    /// The revision that everybody asks for the hash of these files, so that they are read once.
    fn share(&self, revision: Arc<Revision>) -> Arc<Revision> {
        let mut revisions = self.revisions.lock().expect("no thread panics while it holds the revisions");
        let path = revision.dir().path();
        match revisions.get(path) {
            Some(known) if known.is_same_as(&revision) => Arc::clone(known),
            _ => {
                revisions.insert(path.to_owned(), Arc::clone(&revision));
                revision
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Loaded>> {
        self.loaded.lock().expect("no thread panics while it holds the models")
    }
}
