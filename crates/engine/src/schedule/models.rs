//! The models in memory.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use vector_embed_protocol::{ModelInfo, ModelStats};

use super::memory::{Limits, Loaded, Memory, RECHECK, Served};
use super::records::{Record, Records};
use crate::compute::{Decorate, Runtime, load};
use crate::error::{Error, ModelProblem};
use crate::model::{Catalog, Entry, ModelHash, ModelSettings, Revision, describe_format, weigh};
use crate::process::give_memory_back;

/// How often a model is read again because its files change meanwhile.
const READS: usize = 5;

/// How long to wait before looking again whether models that are in use can go.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(2);

/// Loads models when they are first asked for, and anew when their files were replaced; unloads those that nobody uses.
pub struct ModelStore {
    catalog: Catalog,
    runtime: Arc<Runtime>,
    decorate: Decorate,
    memory: Mutex<Memory>,
    /// The last revision seen in each directory: it may know its hash.
    revisions: Mutex<HashMap<PathBuf, Arc<Revision>>>,
    records: Records,
}

impl ModelStore {
    /// A store of the models in `catalog`.
    pub fn new(catalog: Catalog, runtime: Arc<Runtime>, decorate: Decorate, limits: Limits) -> Self {
        let memory = Mutex::new(Memory::new(limits));
        Self { catalog, runtime, decorate, memory, revisions: Mutex::default(), records: Records::default() }
    }

    /// Threads that compute one batch.
    pub fn threads(&self) -> usize {
        self.runtime.threads()
    }

    /// Bytes that the models in memory take.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// What is counted of each model that was asked for, by name.
    pub fn stats(&self) -> Vec<ModelStats> {
        self.records.stats()
    }

    /// What is counted of the model of this name, if it was asked for.
    pub(super) fn record(&self, name: &str) -> Option<Arc<Record>> {
        self.records.find(name)
    }

    /// The model of this name if it is in memory and its files are what they were. None as long as another model waits
    /// for others to go: who comes later waits behind it.
    pub fn get_loaded(&self, name: &str) -> Option<Arc<Served>> {
        let (model, checked) = self.lock().get(name)?;
        if checked.elapsed() < RECHECK {
            return Some(model);
        }
        if !self.is_current(&model) {
            self.forget(&model);
            return None;
        }
        self.lock().confirm(name);
        Some(model)
    }

    /// The model of this name, loaded if necessary. Failures are not remembered.
    pub fn get(&self, name: &str) -> Result<Arc<Served>, Error> {
        self.obtain(name, None, &|| false)
    }

    /// The model of this name, loaded if necessary, whose hash is `expected`; its files may be read for that.
    pub fn get_expected(&self, name: &str, expected: &str) -> Result<Arc<Served>, Error> {
        self.obtain(name, Some(expected), &|| false)
    }

    /// The same, for one who may give up while it waits for models that are in use to make room.
    pub(super) fn obtain(
        &self,
        name: &str,
        expected: Option<&str>,
        gave_up: &dyn Fn() -> bool,
    ) -> Result<Arc<Served>, Error> {
        let Some(expected) = expected else { return self.get_or_load(name, gave_up) };
        for _ in 0..READS {
            let model = self.get_or_load(name, gave_up)?;
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

    fn get_or_load(&self, name: &str, gave_up: &dyn Fn() -> bool) -> Result<Arc<Served>, Error> {
        if let Some(model) = self.get_loaded(name) {
            return Ok(model);
        }
        let entry = self.catalog.find(name)?;
        let record = self.records.get(name);
        let bytes = ModelSettings::read(&entry.dir)
            .and_then(|settings| weigh(&entry.dir, &settings))
            .map_err(|problem| Error::bad_model(name, problem))?;
        self.make_room(name, bytes, gave_up)?;
        let start = Instant::now();
        let load = || load(&self.runtime, &entry, self.decorate);
        let panicked = |_| Err(Error::bad_model(name, ModelProblem::Refused("its code panicked".to_owned())));
        let mut model = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(panicked)?;
        model.revision = self.share(model.revision);
        record.loaded(Arc::clone(&model.revision), bytes, start.elapsed());
        let model = Arc::new(Served::new(model, record));
        self.lock().insert(Loaded::new(Arc::clone(&model), bytes));
        // What was read to make the model of.
        give_memory_back();
        Ok(model)
    }

    /// Unloads models until there is room for one more, those first that were not used for longest. Waits for those that
    /// are in use.
    fn make_room(&self, name: &str, bytes: u64, gave_up: &dyn Fn() -> bool) -> Result<(), Error> {
        let limit = self.lock().limits().bytes;
        if bytes > limit {
            return Err(Error::OverMemory { name: name.to_owned(), bytes, limit });
        }
        loop {
            let mut memory = self.lock();
            if memory.bytes() <= limit - bytes {
                memory.end_wait();
                return Ok(());
            }
            let gone = memory.evict();
            if gone.is_none() {
                memory.wait_for(name);
            }
            if gone.is_none() && gave_up() {
                memory.end_wait();
                return Err(Error::Retiring);
            }
            drop(memory);
            match gone {
                // Not while the memory is locked: a session takes its time to go.
                Some(gone) => {
                    drop(gone);
                    give_memory_back();
                }
                None => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// Unloads the models that nobody has used for the time that is set.
    pub fn unload_idle(&self) {
        let gone = self.lock().take_idle();
        if !gone.is_empty() {
            drop(gone);
            give_memory_back();
        }
    }

    fn is_current(&self, model: &Served) -> bool {
        self.catalog.find(&model.name).is_ok_and(|entry| model.is_current(&entry))
    }

    fn forget(&self, model: &Arc<Served>) {
        let gone = self.lock().forget(model);
        drop(gone);
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
        let loaded = self.lock().dimensions(&entry.name);
        let dimensions = loaded.or(settings.dimensions).unwrap_or(0);
        let (format, precision) =
            (describe_format(&entry.dir, &settings), settings.precision_name().to_owned());
        ModelInfo {
            name: entry.name.clone(),
            dimensions: dimensions as u32,
            max_tokens: settings.max_tokens as u32,
            pooling: settings.pooling_name(),
            normalized: settings.normalized(),
            document_prompt: settings.document_prompt,
            query_prompt: settings.query_prompt,
            format,
            precision,
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

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no thread panics while it holds the models")
    }
}
