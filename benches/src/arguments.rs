//! The command line, which `scripts/bench` writes.

use std::path::PathBuf;

use crate::error::Result;

const USAGE: &str = "usage: bench --runtime FILE --runtime-version V --model DIR --texts FILE --readme FILE \
                     [NAME …]   (NAME: query, first_call, memory, array, clients)";

/// What to measure with.
pub(crate) struct Arguments {
    /// ONNX Runtime's shared library.
    pub(crate) runtime: PathBuf,
    /// Its version, for the report.
    pub(crate) runtime_version: String,
    /// The model's directory.
    pub(crate) model: PathBuf,
    /// Short real texts as `scripts/synopses` prints them.
    pub(crate) texts: PathBuf,
    /// The file that results are written into.
    pub(crate) readme: PathBuf,
    /// Names of the measurements to run; none means all, and only then are the results written.
    pub(crate) selected: Vec<String>,
}

impl Arguments {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut runtime, mut version, mut model, mut texts, mut readme) = Default::default();
        let mut selected = Vec::new();
        while let Some(argument) = arguments.next() {
            let target: &mut Option<String> = match argument.as_str() {
                "--runtime" => &mut runtime,
                "--runtime-version" => &mut version,
                "--model" => &mut model,
                "--texts" => &mut texts,
                "--readme" => &mut readme,
                name if crate::MEASUREMENTS.iter().any(|known| known.name == name) => {
                    selected.push(argument);
                    continue;
                }
                _ => return Err(USAGE.into()),
            };
            *target = Some(arguments.next().ok_or(USAGE)?);
        }
        Ok(Self {
            runtime: runtime.ok_or(USAGE)?.into(),
            runtime_version: version.ok_or(USAGE)?,
            model: model.ok_or(USAGE)?.into(),
            texts: texts.ok_or(USAGE)?.into(),
            readme: readme.ok_or(USAGE)?.into(),
            selected,
        })
    }

    /// Whether the measurement of this name is to be run.
    pub(crate) fn selects(&self, name: &str) -> bool {
        self.selected.is_empty() || self.selected.iter().any(|selected| selected == name)
    }
}
