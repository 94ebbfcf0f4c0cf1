//! What `fuzz/` throws bytes at.

use super::hnsw::Index;
use super::labels;

/// Reads bytes as `index_metadata.pickle`.
pub fn pickle(bytes: &[u8]) {
    // Whatever comes of it.
    let _ = labels::read(bytes, || false);
}

/// Reads bytes as the files of an index, in the order header, data, lengths, pickle, and each vector in it.
pub fn index(files: [&[u8]; 4]) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (name, bytes) in
        ["header.bin", "data_level0.bin", "length.bin", "index_metadata.pickle"].iter().zip(files)
    {
        std::fs::write(folder.path().join(name), bytes).expect("it can be written");
    }
    let Ok(mut index) = Index::open(folder.path().to_owned(), "index", None, true) else { return };
    let Ok(contents) = index.contents(|| false) else { return };
    for slot in contents.slots.values() {
        let mut vector = Vec::new();
        if index.vector(*slot, &mut vector).is_ok() {
            assert!(vector.iter().all(|number| number.is_finite()));
        }
    }
}
