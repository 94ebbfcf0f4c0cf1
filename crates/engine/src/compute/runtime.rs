//! ONNX Runtime, loaded when the first model needs it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use once_cell::sync::OnceCell;
use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use crate::error::{Error, ModelProblem};

/// The shared library and the threads that sessions get. There is one in a process.
#[derive(Debug)]
pub struct Runtime {
    library: PathBuf,
    threads: usize,
    environment: Arc<OnceCell<Environment>>,
}

impl Runtime {
    /// A runtime that will be loaded from `library` and compute each batch with `threads` threads.
    pub fn new(library: impl Into<PathBuf>, threads: usize) -> Self {
        Self { library: library.into(), threads: threads.max(1), environment: Arc::default() }
    }

    /// The same runtime for other models, whose batches are computed with `threads` threads.
    pub fn with_threads(&self, threads: usize) -> Self {
        let (library, environment) = (self.library.clone(), Arc::clone(&self.environment));
        Self { library, threads: threads.max(1), environment }
    }

    /// Threads that compute one batch.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Loads the library if that has not happened, so that a missing one is told from a bad model. A failure
    /// is not remembered: the next call tries again.
    pub fn load(&self) -> Result<&Environment, Error> {
        self.environment.get_or_try_init(|| load(&self.library))
    }

    /// Options for a new session.
    pub(super) fn session(&self) -> Result<SessionBuilder, Error> {
        let environment = self.load()?;
        configure(environment, self.threads)
            .map_err(|error| Error::Runtime { path: self.library.clone(), reason: error.to_string() })
    }
}

fn load(library: &Path) -> Result<Environment, Error> {
    let failed = |reason: String| Error::Runtime { path: library.to_owned(), reason };
    if !library.is_file() {
        return Err(failed("the file does not exist".to_owned()));
    }
    let builder = ort::init_from(library).map_err(|error| failed(error.to_string()))?;
    builder.with_name("vector_embed").with_telemetry(false).build().map_err(|error| failed(error.to_string()))
}

fn configure(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
    Ok(SessionBuilder::new(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_memory_pattern(false)?)
}

/// What ONNX Runtime says against a model.
pub(super) fn refused(error: &ort::Error) -> ModelProblem {
    ModelProblem::Refused(error.message().to_owned())
}

/// What ONNX Runtime says while computing.
pub(super) fn failed(error: &ort::Error) -> Error {
    // Its arena has no error code for this, only a message.
    if error.message().contains("allocate memory") {
        return Error::OutOfMemory;
    }
    Error::Compute { reason: error.message().to_owned() }
}
