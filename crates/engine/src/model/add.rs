//! Installing a model directory under a name.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use vector_embed_protocol::is_model_name;

use super::files::ModelDir;
use super::hash::model_hash;
use super::settings::ModelSettings;
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

/// Copies the files that decide the vectors of the model in `source` to `root/name`.
///
/// Refuses a name that exists with other content. The new directory appears at once and whole.
pub fn add(source: &Path, root: &Path, name: &str) -> Result<Added, AddError> {
    if !is_model_name(name) {
        return Err(AddError::Name(name.to_owned()));
    }
    let bad = |problem| AddError::Source { dir: source.to_owned(), problem };
    let source_dir = ModelDir::new(source);
    let settings = ModelSettings::read(&source_dir).map_err(bad)?;
    let (hash, _) = model_hash(&source_dir, &settings.files).map_err(bad)?;

    let target = root.join(name);
    if target.exists() {
        let existing = ModelDir::new(&target);
        let present = ModelSettings::read(&existing)
            .and_then(|settings| model_hash(&existing, &settings.files))
            .is_ok_and(|(existing, _)| existing == hash);
        return if present { Ok(Added::Present { hash }) } else { Err(AddError::Exists(name.to_owned())) };
    }

    // Hidden from the catalog by its name until it is complete. A run that was killed may have left one behind.
    let partial = root.join(format!(".{name}.partial"));
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(AddError::Write { path: partial, error });
        }
        _ => {}
    }
    let written = copy(&source_dir, &settings.files, &partial).and_then(|()| {
        fs::rename(&partial, &target).map_err(|error| AddError::Write { path: target.clone(), error })
    });
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
    }
    written.map(|()| Added::New { hash })
}

fn copy(source: &ModelDir, files: &[String], target: &Path) -> Result<(), AddError> {
    // Whoever adds a model, with whatever umask, the server's user must be able to read it.
    let put = |path: &Path, name: &str| -> io::Result<()> {
        let parent = path.parent().unwrap_or(target);
        fs::create_dir_all(parent)?;
        fs::set_permissions(target, Permissions::from_mode(0o755))?;
        fs::set_permissions(parent, Permissions::from_mode(0o755))?;
        fs::copy(source.file(name), path)?;
        fs::set_permissions(path, Permissions::from_mode(0o644))
    };
    for name in files {
        let path = target.join(name);
        put(&path, name).map_err(|error| AddError::Write { path, error })?;
    }
    Ok(())
}
