//! The identity of a model.

use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use super::files::{ModelDir, problem};
use crate::error::ModelProblem;

/// SHA-256 over the sorted (path, SHA-256) pairs of `files`, one `<hash>  <path>` line each as `sha256sum`
/// prints them, and the files' total size in bytes. Nodes with equal hashes compute equal vectors.
pub fn model_hash(dir: &ModelDir, files: &[String]) -> Result<(String, u64), ModelProblem> {
    let mut names: Vec<&String> = files.iter().collect();
    names.sort();
    let mut all = Sha256::new();
    let mut bytes = 0;
    for name in names {
        let (hash, size) = file_hash(dir.open(name)?).map_err(|error| problem(name, &error))?;
        all.update(format!("{hash}  {name}\n"));
        bytes += size;
    }
    Ok((hex(&all.finalize()), bytes))
}

fn file_hash(mut file: File) -> io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hex(&hasher.finalize()), size));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
