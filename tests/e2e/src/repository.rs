//! Where the repository's files are.

use std::env;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    // As cargo says when it runs the tests, not when it built them: another clone may have done that, with the same cache.
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests"));
    here.parent().and_then(Path::parent).expect("this crate is two folders below the root").to_owned()
}

/// The folder of reference vectors and fixture models.
pub fn golden() -> PathBuf {
    root().join("tests/golden")
}
