//! The command line, which `scripts/bench` writes.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::error::Result;
use crate::measure::MEASUREMENTS;

/// Options that have to be there.
const NEEDED: [&str; 10] = [
    "golden",
    "runtime",
    "runtime-version",
    "model",
    "texts",
    "readme",
    "engine",
    "models",
    "cluster",
    "clusters",
];
/// Options for what may be missing; what needs it is then not measured.
const OPTIONAL: [&str; 5] = ["passages", "peers", "sentence-transformers", "chroma", "chroma-home"];

/// What to measure with.
pub(crate) struct Arguments {
    values: HashMap<&'static str, String>,
    /// Whether it is only to be seen that everything runs, with few texts and rounds.
    pub(crate) quick: bool,
    /// Names of the measurements to run; none means all, and only then are the results written.
    pub(crate) selected: Vec<String>,
}

impl Arguments {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut parsed = Self { values: HashMap::new(), quick: false, selected: Vec::new() };
        while let Some(argument) = arguments.next() {
            let option = argument.strip_prefix("--");
            if option == Some("quick") {
                parsed.quick = true;
            } else if let Some(known) = NEEDED.into_iter().chain(OPTIONAL).find(|known| option == Some(known))
            {
                parsed.values.insert(known, arguments.next().ok_or_else(usage)?);
            } else if MEASUREMENTS.iter().any(|known| known.name == argument) {
                parsed.selected.push(argument);
            } else {
                return Err(usage().into());
            }
        }
        if NEEDED.iter().any(|name| !parsed.values.contains_key(name)) {
            return Err(usage().into());
        }
        Ok(parsed)
    }

    /// The value of an option that has to be there.
    pub(crate) fn value(&self, name: &str) -> &str {
        &self.values[name]
    }

    /// The file or folder that a needed option names.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.value(name).into()
    }

    /// The file or folder that an option names, or an error that says what could not be had.
    pub(crate) fn optional(&self, name: &str) -> Result<PathBuf> {
        let path = self.values.get(name).map(PathBuf::from);
        path.ok_or_else(|| {
            format!("scripts/bench could not get what --{name} names; see what it printed").into()
        })
    }

    /// Whether the measurement of this name is to be run.
    pub(crate) fn selects(&self, name: &str) -> bool {
        self.selected.is_empty() || self.selected.iter().any(|selected| selected == name)
    }
}

fn usage() -> String {
    let options = |names: &[&str]| names.iter().map(|name| format!(" --{name} …")).collect::<String>();
    let names: Vec<&str> = MEASUREMENTS.iter().map(|measurement| measurement.name).collect();
    format!(
        "usage: bench{} [{} --quick] [NAME …]\nNAME: {}",
        options(&NEEDED),
        options(&OPTIONAL).trim_start(),
        names.join(", ")
    )
}
