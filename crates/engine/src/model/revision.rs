//! A model directory as it was at one moment.

use std::sync::atomic::{AtomicU64, Ordering};

use once_cell::sync::OnceCell;

use super::files::{Fingerprint, ModelDir};
use super::hash::model_hash;
use super::settings::ModelSettings;
use crate::error::ModelProblem;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What tells the files of a model directory from those that take their place, and their hash, which is computed
/// when it is first asked for.
#[derive(Debug)]
pub struct Revision {
    id: u64,
    dir: ModelDir,
    files: Vec<String>,
    looked_for: Vec<String>,
    fingerprint: Fingerprint,
    hash: OnceCell<ModelHash>,
}

/// A model's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelHash {
    /// The hash of [`model_hash`].
    pub digits: String,
    /// Total size of the files.
    pub bytes: u64,
}

impl Revision {
    /// The directory as it is now, and what it says. What is read of it afterwards belongs to this revision as long
    /// as it is current.
    pub fn read(dir: &ModelDir) -> Result<(Self, ModelSettings), ModelProblem> {
        let looked_for = ModelSettings::read(dir)?.looked_for;
        let fingerprint = dir.fingerprint(&looked_for);
        // Again, since only now a change would show.
        let settings = ModelSettings::read(dir)?;
        if settings.looked_for != looked_for {
            return Err(ModelProblem::Changed);
        }
        let files = settings.files.clone();
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let revision = Self { id, dir: dir.clone(), files, looked_for, fingerprint, hash: OnceCell::new() };
        Ok((revision, settings))
    }

    /// Tells it from all other revisions that this process reads.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The directory.
    pub fn dir(&self) -> &ModelDir {
        &self.dir
    }

    /// Whether the files have not been touched since.
    pub fn is_current(&self) -> bool {
        self.fingerprint == self.dir.fingerprint(&self.looked_for)
    }

    /// Whether both are of the same files in the same directory.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.dir == other.dir && self.looked_for == other.looked_for && self.fingerprint == other.fingerprint
    }

    /// The hash, if it was computed already.
    pub fn known_hash(&self) -> Option<&ModelHash> {
        self.hash.get()
    }

    /// The hash. The files are read once, for all who ask meanwhile. [`ModelProblem::Changed`] if they are not what
    /// they were, now or when they have been read.
    pub fn hash(&self) -> Result<&ModelHash, ModelProblem> {
        self.hash.get_or_try_init(|| {
            if !self.is_current() {
                return Err(ModelProblem::Changed);
            }
            let hashed = model_hash(&self.dir, &self.files);
            // A failure may come of a change, too: a file that is not there any more.
            if !self.is_current() {
                return Err(ModelProblem::Changed);
            }
            hashed.map(|(digits, bytes)| ModelHash { digits, bytes })
        })
    }
}
