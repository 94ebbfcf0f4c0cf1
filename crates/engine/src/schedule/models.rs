//! The models in memory.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use vector_embed_protocol::ModelInfo;

use crate::compute::{Decorate, LoadedModel, Runtime, load};
use crate::error::{Error, ModelProblem};
use crate::model::{Catalog, Entry, Fingerprint, ModelSettings, Weights, model_hash};

/// How long a loaded model is served before its files are looked at again.
const RECHECK: Duration = Duration::from_secs(1);

/// Loads models when they are first asked for, and anew when their files were replaced.
pub struct ModelStore {
    catalog: Catalog,
    runtime: Runtime,
    decorate: Decorate,
    loaded: Mutex<HashMap<String, Loaded>>,
    hashes: Mutex<HashMap<PathBuf, (Fingerprint, String, u64)>>,
}

struct Loaded {
    model: Arc<LoadedModel>,
    checked: Instant,
}

impl ModelStore {
    /// A store of the models in `catalog`.
    pub fn new(catalog: Catalog, runtime: Runtime, decorate: Decorate) -> Self {
        Self { catalog, runtime, decorate, loaded: Mutex::default(), hashes: Mutex::default() }
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
        if !self.catalog.find(name).is_ok_and(|entry| model.is_current(&entry)) {
            self.lock().remove(name);
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
        let model = Arc::new(catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(panicked)?);
        let loaded = Loaded { model: Arc::clone(&model), checked: Instant::now() };
        self.lock().insert(name.to_owned(), loaded);
        Ok(model)
    }

    /// The installed models with what their directories say, unusable ones included.
    pub fn list(&self) -> Vec<ModelInfo> {
        self.catalog.list().iter().map(|entry| self.describe(entry)).collect()
    }

    fn describe(&self, entry: &Entry) -> ModelInfo {
        let name = entry.name.clone();
        self.read(entry).unwrap_or_else(|problem| ModelInfo {
            name,
            problem: problem.to_string(),
            ..ModelInfo::default()
        })
    }

    fn read(&self, entry: &Entry) -> Result<ModelInfo, ModelProblem> {
        let settings = ModelSettings::read(&entry.dir)?;
        let (hash, bytes) = self.hash(entry, &settings)?;
        let loaded = self.lock().get(&entry.name).map(|loaded| Arc::clone(&loaded.model));
        let dimensions = loaded.as_ref().map(|model| model.dimensions).or(settings.dimensions).unwrap_or(0);
        Ok(ModelInfo {
            name: entry.name.clone(),
            dimensions: dimensions as u32,
            max_tokens: settings.max_tokens as u32,
            pooling: settings.pooling.name().to_owned(),
            normalized: settings.normalize,
            document_prompt: settings.document_prompt,
            query_prompt: settings.query_prompt,
            format: match settings.weights {
                Weights::Bert(_) => "safetensors".to_owned(),
                Weights::Onnx(_) => "onnx".to_owned(),
            },
            bytes,
            hash,
            loaded: loaded.is_some(),
            problem: String::new(),
        })
    }

    /// The model's hash; the files are read only when they changed, and once for all who ask meanwhile.
    fn hash(&self, entry: &Entry, settings: &ModelSettings) -> Result<(String, u64), ModelProblem> {
        let mut hashes = self.hashes.lock().expect("no thread panics while it holds the hashes");
        let fingerprint = entry.dir.fingerprint(&settings.looked_for);
        let path = entry.dir.path().to_owned();
        if let Some((known, hash, bytes)) = hashes.get(&path)
            && *known == fingerprint
        {
            return Ok((hash.clone(), *bytes));
        }
        let (hash, bytes) = model_hash(&entry.dir, &settings.files)?;
        hashes.insert(path, (fingerprint, hash.clone(), bytes));
        Ok((hash, bytes))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Loaded>> {
        self.loaded.lock().expect("no thread panics while it holds the models")
    }
}
