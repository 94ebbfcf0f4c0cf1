//! Installing a model directory under a name.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;
use vector_embed_protocol::is_model_name;

use super::files::ModelDir;
use super::golden::GOLDEN;
use super::hash::model_hash;
use super::precision::{OWN_SETTINGS, OwnSettings, Precision};
use super::settings::{ModelSettings, PROMPTS};
use crate::error::ModelProblem;

/// A model that could not be added.
#[derive(Debug, Error)]
pub enum AddError {
    /// The name is not allowed.
    #[error(
        "\"{0}\" is not a model name: letters, digits, \".\", \"_\" and \"-\", at most 63, the first a letter or digit"
    )]
    Name(String),
    /// The source directory is not a usable model.
    #[error("\"{}\" is not a usable model: {problem}", dir.display())]
    Source {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        problem: ModelProblem,
    },
    /// Another model has the name.
    #[error(
        "model \"{0}\" exists with other content: another revision is another vector space and needs another name"
    )]
    Exists(String),
    /// Copying failed.
    #[error("could not write \"{}\": {error}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
}

/// What a model is installed with instead of what its directory says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddOptions {
    /// Prompt in front of stored texts.
    pub document_prompt: Option<String>,
    /// Prompt in front of queries.
    pub query_prompt: Option<String>,
    /// What it is computed in.
    pub precision: Option<Precision>,
}

/// What adding did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// The model was installed.
    New {
        /// Its hash.
        hash: String,
    },
    /// The same model was there already.
    Present {
        /// Its hash.
        hash: String,
    },
}

/// Copies the files that decide the vectors of the model in `source` to `root/name`, and golden vectors.
///
/// Options are written into the copy, so that its hash covers them. Refuses a name that exists with other content. The
/// new directory appears at once and whole.
pub fn add(source: &Path, root: &Path, name: &str, options: &AddOptions) -> Result<Added, AddError> {
    if !is_model_name(name) {
        return Err(AddError::Name(name.to_owned()));
    }
    let bad = |problem| AddError::Source { dir: source.to_owned(), problem };
    let source_dir = ModelDir::new(source);
    let settings = ModelSettings::read(&source_dir).map_err(bad)?;

    // Hidden from the catalog by its name until it is complete. A run that was killed may have left one behind.
    let partial = root.join(format!(".{name}.partial"));
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(AddError::Write { path: partial, error });
        }
        _ => {}
    }
    let added = copy(&source_dir, &settings.files, &partial)
        .and_then(|()| choose_prompts(&partial, options))
        .and_then(|()| choose_precision(&partial, options.precision))
        .and_then(|()| hash_of(&ModelDir::new(&partial)).map_err(bad))
        .and_then(|hash| put_in_place(&partial, &root.join(name), name, hash));
    if !matches!(added, Ok(Added::New { .. })) {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
    }
    added
}

fn put_in_place(partial: &Path, target: &Path, name: &str, hash: String) -> Result<Added, AddError> {
    if target.exists() {
        let same = hash_of(&ModelDir::new(target)).is_ok_and(|existing| existing == hash);
        return if same { Ok(Added::Present { hash }) } else { Err(AddError::Exists(name.to_owned())) };
    }
    fs::rename(partial, target).map_err(|error| AddError::Write { path: target.to_owned(), error })?;
    Ok(Added::New { hash })
}

fn hash_of(dir: &ModelDir) -> Result<String, ModelProblem> {
    let settings = ModelSettings::read(dir)?;
    model_hash(dir, &settings.files).map(|(hash, _)| hash)
}

/// Writes prompts to where sentence-transformers reads them, and leaves the rest of that file as it is.
fn choose_prompts(dir: &Path, options: &AddOptions) -> Result<(), AddError> {
    let chosen = [("document", &options.document_prompt), ("query", &options.query_prompt)];
    if chosen.iter().all(|(_, prompt)| prompt.is_none()) {
        return Ok(());
    }
    let problem = |problem| AddError::Source { dir: dir.to_owned(), problem };
    let mut config: serde_json::Map<String, Value> =
        ModelDir::new(dir).json(PROMPTS).map_err(problem)?.unwrap_or_default();
    let entry = config.entry("prompts").or_insert_with(|| Value::Object(serde_json::Map::new()));
    if let Value::Object(all) = entry {
        for (name, prompt) in chosen {
            if let Some(prompt) = prompt {
                all.insert(name.to_owned(), Value::String(prompt.clone()));
            }
        }
    }
    write_json(&dir.join(PROMPTS), &config)
}

/// The usual precision is not written down, so that the hash of such a model is that of its published files.
fn choose_precision(dir: &Path, precision: Option<Precision>) -> Result<(), AddError> {
    let path = dir.join(OWN_SETTINGS);
    match precision {
        None => Ok(()),
        Some(Precision::Fp32) => match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(AddError::Write { path, error }),
            _ => Ok(()),
        },
        Some(precision) => write_json(&path, &OwnSettings { precision }),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), AddError> {
    let text = serde_json::to_string_pretty(value).expect("strings and maps of strings are plain JSON");
    fs::write(path, format!("{text}\n"))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644)))
        .map_err(|error| AddError::Write { path: path.to_owned(), error })
}

fn copy(source: &ModelDir, files: &[String], target: &Path) -> Result<(), AddError> {
    let write = |path: &Path, error| AddError::Write { path: path.to_owned(), error };
    // Whoever adds a model, with whatever umask, the server's user must be able to read it.
    let make = |path: &Path| {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o755))
    };
    make(target).map_err(|error| write(target, error))?;
    let golden = source.has(GOLDEN).then(|| GOLDEN.to_owned());
    for name in files.iter().chain(&golden) {
        let mut from = source
            .open_up_to(name, u64::MAX)
            .map_err(|problem| AddError::Source { dir: source.path().to_owned(), problem })?;
        let mut path = target.to_owned();
        let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            path.push(folder);
            make(&path).map_err(|error| write(&path, error))?;
        }
        path.push(file);
        let mut put = || -> io::Result<()> {
            let mut to = File::create_new(&path)?;
            io::copy(&mut from, &mut to)?;
            to.set_permissions(Permissions::from_mode(0o644))?;
            to.sync_all()
        };
        put().map_err(|error| write(&path, error))?;
    }
    Ok(())
}
