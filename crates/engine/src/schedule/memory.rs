//! Which models are in memory, and which go when there is no room or nobody uses them.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::records::Record;
use crate::compute::LoadedModel;

/// How long a loaded model is served before its files are looked at again.
pub(super) const RECHECK: Duration = Duration::from_secs(1);

/// How much memory models may take, and for how long nobody may use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all models in memory.
    pub bytes: u64,
    /// A model that was not used for so long is unloaded.
    pub idle: Duration,
}

impl Limits {
    /// Models stay in memory.
    pub const NONE: Self = Self { bytes: u64::MAX, idle: Duration::MAX };
}

/// A model in memory and what is counted of it. Whoever has texts for it holds on to it.
pub struct Served {
    model: LoadedModel,
    pub(super) record: Arc<Record>,
}

impl Served {
    pub(super) fn new(model: LoadedModel, record: Arc<Record>) -> Self {
        Self { model, record }
    }
}

impl Deref for Served {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.model
    }
}

/// A model that is given to those who ask for it.
pub(super) struct Loaded {
    model: Arc<Served>,
    bytes: u64,
    checked: Instant,
    used: Instant,
}

impl Loaded {
    pub(super) fn new(model: Arc<Served>, bytes: u64) -> Self {
        let now = Instant::now();
        Self { model, bytes, checked: now, used: now }
    }

    /// Whether texts wait for it or are computed.
    fn in_use(&self) -> bool {
        Arc::strong_count(&self.model) > 1
    }

    fn retire(self) -> Arc<Served> {
        self.model.record.unloaded();
        self.model
    }
}

/// The models in memory.
pub(super) struct Memory {
    limits: Limits,
    models: HashMap<String, Loaded>,
    /// Models that were replaced or have to go, as long as somebody holds on to them.
    leaving: Vec<(Weak<Served>, u64)>,
    /// The model that waits for others to go.
    awaited: Option<String>,
}

impl Memory {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, models: HashMap::new(), leaving: Vec::new(), awaited: None }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes of all models.
    pub(super) fn bytes(&mut self) -> u64 {
        self.leaving.retain(|(model, _)| model.strong_count() > 0);
        let leaving = self.leaving.iter().map(|(_, bytes)| bytes);
        self.models.values().map(|loaded| &loaded.bytes).chain(leaving).sum()
    }

    /// The model of this name, to be used, and when its files were looked at.
    pub(super) fn get(&mut self, name: &str) -> Option<(Arc<Served>, Instant)> {
        if self.awaited.is_some() {
            return None;
        }
        let loaded = self.models.get_mut(name)?;
        loaded.used = Instant::now();
        loaded.model.record.used();
        Some((Arc::clone(&loaded.model), loaded.checked))
    }

    /// Length of the vectors of the model of this name, if it is in memory. To look does not count as use.
    pub(super) fn dimensions(&self, name: &str) -> Option<usize> {
        self.models.get(name).map(|loaded| loaded.model.dimensions)
    }

    /// The files of the model of this name have been looked at.
    pub(super) fn confirm(&mut self, name: &str) {
        if let Some(loaded) = self.models.get_mut(name) {
            loaded.checked = Instant::now();
        }
    }

    pub(super) fn insert(&mut self, loaded: Loaded) {
        let name = loaded.model.name.clone();
        if let Some(former) = self.models.insert(name, loaded) {
            self.leaving.push((Arc::downgrade(&former.model), former.bytes));
        }
    }

    /// Takes a model out, if it is this one. Who holds on to it keeps it.
    pub(super) fn forget(&mut self, model: &Arc<Served>) -> Option<Arc<Served>> {
        let is_this = |loaded: &Loaded| Arc::ptr_eq(&loaded.model, model);
        if !self.models.get(&model.name).is_some_and(is_this) {
            return None;
        }
        let loaded = self.models.remove(&model.name)?;
        self.leaving.push((Arc::downgrade(&loaded.model), loaded.bytes));
        Some(loaded.retire())
    }

    /// Takes out the model that was not used for longest, of those that nobody uses.
    pub(super) fn evict(&mut self) -> Option<Arc<Served>> {
        let unused = self.models.iter().filter(|(_, loaded)| !loaded.in_use());
        let name = unused.min_by_key(|(_, loaded)| loaded.used).map(|(name, _)| name.clone())?;
        self.models.remove(&name).map(Loaded::retire)
    }

    /// Takes out the models that nobody has used for long.
    pub(super) fn take_idle(&mut self) -> Vec<Arc<Served>> {
        let (now, idle) = (Instant::now(), self.limits.idle);
        for loaded in self.models.values_mut().filter(|loaded| loaded.in_use()) {
            loaded.used = now;
        }
        let unused = self.models.extract_if(|_, loaded| now.duration_since(loaded.used) >= idle);
        unused.map(|(_, loaded)| loaded.retire()).collect()
    }

    /// The model of this name waits for others to go: no new texts are given to them.
    pub(super) fn wait_for(&mut self, name: &str) {
        if self.awaited.is_none() {
            self.awaited = Some(name.to_owned());
        }
    }

    /// Nobody waits any more.
    pub(super) fn end_wait(&mut self) {
        self.awaited = None;
    }
}
