//! Finding the installation that this program belongs to.

use std::path::PathBuf;
use std::process::Command;

use super::Places;

impl Places {
    /// The directories that hold models; new ones go to the first.
    pub(super) fn models(&self) -> Result<Vec<PathBuf>, String> {
        match &self.models {
            Some(list) => Ok(list.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect()),
            None => Ok(vec![installed("--sharedir", "--models")?.join("vector_embed/models")]),
        }
    }

    /// ONNX Runtime's shared library.
    pub(super) fn runtime(&self) -> Result<PathBuf, String> {
        match &self.runtime {
            Some(file) => Ok(file.clone()),
            None => Ok(installed("--pkglibdir", "--runtime")?.join("vector_embed/libonnxruntime.so")),
        }
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

/// The processors this process may use.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
