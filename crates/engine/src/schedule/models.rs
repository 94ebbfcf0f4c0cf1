//! The models in memory.

use std::collections::HashMap;
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

    /// The model of this name if it is in memory and was looked at a moment ago. Does not wait for anything.
    pub fn get_if_fresh(&self, name: &str) -> Option<Arc<LoadedModel>> {
        let models = self.lock();
        let loaded = models.get(name)?;
        (loaded.checked.elapsed() < RECHECK).then(|| Arc::clone(&loaded.model))
    }

    /// The model of this name, loaded if necessary. Failures are not remembered.
    pub fn get(&self, name: &str) -> Result<Arc<LoadedModel>, Error> {
        if let Some(model) = self.get_if_fresh(name) {
            return Ok(model);
        }
        let known = self.lock().get(name).map(|loaded| Arc::clone(&loaded.model));
        let entry = self.catalog.find(name).inspect_err(|_| self.forget(name))?;
        let model = match known {
            Some(model) if model.is_current(&entry) => model,
            _ => {
                self.forget(name);
                Arc::new(load(&self.runtime, &entry, self.decorate)?)
            }
        };
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

    /// The model's hash; the files are read only when they changed.
    fn hash(&self, entry: &Entry, settings: &ModelSettings) -> Result<(String, u64), ModelProblem> {
        let fingerprint = entry.dir.fingerprint(&settings.files);
        let path = entry.dir.path().to_owned();
        if let Some((known, hash, bytes)) = self.lock_hashes().get(&path)
            && *known == fingerprint
        {
            return Ok((hash.clone(), *bytes));
        }
        let (hash, bytes) = model_hash(&entry.dir, &settings.files)?;
        self.lock_hashes().insert(path, (fingerprint, hash.clone(), bytes));
        Ok((hash, bytes))
    }

    fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Loaded>> {
        self.loaded.lock().expect("no thread panics while it holds the models")
    }

    fn lock_hashes(&self) -> MutexGuard<'_, HashMap<PathBuf, (Fingerprint, String, u64)>> {
        self.hashes.lock().expect("no thread panics while it holds the hashes")
    }
}
