//! Which models there are. A name is only ever looked up among directory entries that were enumerated here; it
//! never becomes part of a path.

use std::fs;
use std::path::PathBuf;

use vector_embed_protocol::is_model_name;

use super::files::ModelDir;
use crate::error::Error;

/// The directories that hold models.
#[derive(Debug, Clone)]
pub struct Catalog {
    roots: Vec<PathBuf>,
}

/// One model of the catalog.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub dir: ModelDir,
}

impl Catalog {
    /// A catalog over `roots`; of two models of one name the one in the earlier root counts.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots }
    }

    /// The models, sorted by name. A root that does not exist holds none.
    pub fn list(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for root in &self.roots {
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let known = entries.iter().any(|entry| entry.name == name);
                if !known && is_model_name(&name) && entry.path().is_dir() {
                    entries.push(Entry { name, dir: ModelDir::new(entry.path()) });
                }
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// The model of this name.
    pub fn find(&self, name: &str) -> Result<Entry, Error> {
        let mut entries = self.list();
        match entries.iter().position(|entry| entry.name == name) {
            Some(position) => Ok(entries.swap_remove(position)),
            None => Err(Error::UnknownModel {
                name: name.to_owned(),
                installed: entries.into_iter().map(|entry| entry.name).collect(),
            }),
        }
    }
}
