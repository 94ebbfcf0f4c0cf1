//! Chroma directories that chromadb wrote, in copies that servers can read.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::account::output;
use crate::{repository, run};

/// The versions that wrote some.
pub const VERSIONS: [&str; 4] = ["0.4.24", "0.5.23", "0.6.3", "1.5.9"];

/// A copy of a directory, and what chromadb says that is in it.
pub struct Store {
    /// Where it is.
    pub path: PathBuf,
    /// Its collections, as `tests/chroma/make_stores.py` writes them down.
    pub collections: Vec<Value>,
}

impl Store {
    /// The directory `name` of a version, made by `scripts/chroma` if it is not in the cache.
    pub fn of(version: &str, name: &str) -> Self {
        let script = repository::root().join("scripts/chroma");
        let made = output(Command::new(script).args(["stores", version]));
        let made = PathBuf::from(made.trim_end());
        let path = run::new_path("chroma");
        output(Command::new("cp").arg("-r").arg(made.join(name)).arg(&path));
        let json = fs::read(made.join(format!("{name}.json"))).expect("what chromadb says is there");
        let mut said: Value = serde_json::from_slice(&json).expect("valid JSON");
        let collections = said["collections"].as_array_mut().map(std::mem::take).expect("collections");
        Self { path, collections }
    }

    /// The folder of the largest index.
    pub fn index(&self) -> PathBuf {
        let entries = fs::read_dir(&self.path).expect("the directory can be listed").flatten();
        let size =
            |folder: &PathBuf| fs::metadata(folder.join("data_level0.bin")).map_or(0, |found| found.len());
        entries.map(|entry| entry.path()).max_by_key(size).expect("there is an index")
    }
}
