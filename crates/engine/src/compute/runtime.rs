//! ONNX Runtime, loaded when the first model needs it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use once_cell::sync::OnceCell;
use ort::environment::Environment;
use ort::ep::{ArbitrarilyConfigurableExecutionProvider, OpenVINO};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use crate::error::{Error, ModelProblem};
use crate::model::Precision;

/// The shared library and the threads that sessions get. There is one in a process.
#[derive(Debug, Clone)]
pub struct Runtime {
    library: PathBuf,
    has_openvino: bool,
    threads: usize,
    /// Where sessions write how long each of their operators took.
    profile: Option<PathBuf>,
    environment: Arc<OnceCell<Environment>>,
}

impl Runtime {
    /// A runtime that will be loaded from `library` and compute each batch with `threads` threads.
    pub fn new(library: impl Into<PathBuf>, threads: usize) -> Self {
        Self {
            library: library.into(),
            has_openvino: false,
            threads: threads.max(1),
            profile: None,
            environment: Arc::default(),
        }
    }

    /// The same with a library that has OpenVINO beside it: the one for models with bf16.
    pub fn with_openvino(library: impl Into<PathBuf>, threads: usize) -> Self {
        Self { has_openvino: true, ..Self::new(library, threads) }
    }

    /// Makes sure that this is the runtime that a model of this precision is served by.
    pub fn check_serves(&self, name: &str, precision: Precision) -> Result<(), Error> {
        match self.has_openvino == (precision == Precision::Bf16) {
            true => Ok(()),
            false => Err(Error::OtherEngine { name: name.to_owned() }),
        }
    }

    /// The same runtime for other models, whose batches are computed with `threads` threads.
    pub fn with_threads(&self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self.clone() }
    }

    /// The same runtime for other models, each of which writes down how long its operators took when it is dropped: to
    /// a file whose name begins with that of `profile`.
    pub fn with_profile(&self, profile: impl Into<PathBuf>) -> Self {
        Self { profile: Some(profile.into()), ..self.clone() }
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
        let configured = configure(environment, self.threads).and_then(|options| match &self.profile {
            None => Ok(options),
            Some(profile) => Ok(options.with_profiling(profile)?),
        });
        configured.map_err(|error| self.failed(&error))
    }

    /// Options for a new session that computes in bf16.
    pub(super) fn bf16_session(&self) -> Result<SessionBuilder, Error> {
        let environment = self.load()?;
        configure_openvino(environment, self.threads).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &ort::Error) -> Error {
        Error::Runtime { path: self.library.clone(), reason: error.to_string() }
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

/// Threads are OpenVINO's own, and not bound to processors, which other processes want, too. It keeps no cache of models:
/// that would be files.
fn configure_openvino(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
    let config = serde_json::json!({"CPU": {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": threads.to_string(),
        "ENABLE_CPU_PINNING": "NO",
    }});
    let openvino =
        OpenVINO::default().with_device_type("CPU").with_arbitrary_config("load_config", config.to_string());
    Ok(configure(environment, 1)?
        // A graph of which it takes a part only would be as slow as fp32.
        .with_disable_cpu_fallback()?
        .with_execution_providers([openvino.build().error_on_failure()])?)
}

/// The one of a process that tests.
#[cfg(test)]
pub(super) fn for_tests() -> &'static Runtime {
    static RUNTIME: OnceCell<Runtime> = OnceCell::new();
    let runtime = RUNTIME.get_or_init(|| {
        Runtime::new(std::env::var_os("VECTOR_EMBED_TEST_RUNTIME").expect("run scripts/cargo test"), 2)
    });
    // Making a graph needs the library, too.
    runtime.load().expect("ONNX Runtime");
    runtime
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
