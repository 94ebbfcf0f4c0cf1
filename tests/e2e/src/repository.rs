//! Where the repository's files are.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().and_then(Path::parent).expect("this crate is two folders below the root").to_owned()
}

/// The folder of reference vectors and fixture models.
pub fn golden() -> PathBuf {
    root().join("tests/golden")
}
