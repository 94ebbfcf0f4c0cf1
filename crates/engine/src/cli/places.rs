//! Finding the installation that this program belongs to.

use std::path::PathBuf;
use std::process::Command;

use super::Places;
use crate::compute::Runtime;
use crate::model::{Entry, ModelSettings, Precision};

impl Places {
    /// The directories that hold models; new ones go to the first.
    pub(super) fn models(&self) -> Result<Vec<PathBuf>, String> {
        match &self.models {
            Some(list) => Ok(list.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect()),
            None => Ok(vec![installed("--sharedir", "--models")?.join("vector_embed/models")]),
        }
    }

    /// ONNX Runtime's shared library; with OpenVINO that of another build.
    pub(super) fn library(&self, openvino: bool) -> Result<PathBuf, String> {
        match &self.runtime {
            Some(file) => Ok(file.clone()),
            None => {
                let folder = if openvino { "vector_embed/openvino" } else { "vector_embed" };
                Ok(installed("--pkglibdir", "--runtime")?.join(folder).join("libonnxruntime.so"))
            }
        }
    }

    /// The runtime that computes in the model's precision, with all processors.
    pub(super) fn runtime(&self, entry: &Entry) -> Result<Runtime, String> {
        let precision = ModelSettings::read(&entry.dir).map(|settings| settings.precision);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        // What is wrong with the directory is told when it is loaded.
        Ok(match precision {
            Ok(Precision::Bf16) => Runtime::with_openvino(self.library(true)?, threads),
            _ => Runtime::new(self.library(false)?, threads),
        })
    }
}

/// Asks the pg_config beside this program, which `make install` puts into its `--bindir`.
fn installed(directory: &str, instead: &str) -> Result<PathBuf, String> {
    let program = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("pg_config")))
        .ok_or_else(|| format!("could not tell where this program is; use {instead}"))?;
    let output = Command::new(&program)
        .arg(directory)
        .output()
        .map_err(|error| format!("could not run \"{}\": {error}; use {instead}", program.display()))?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || path.is_empty() {
        return Err(format!("\"{} {directory}\" failed; use {instead}", program.display()));
    }
    Ok(PathBuf::from(path))
}
