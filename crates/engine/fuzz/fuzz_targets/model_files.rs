//! No bytes in place of a model's other files may do more than be refused. Seeds: such files, behind a byte that tells
//! which one it is.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vector_embed_engine::fuzz::{FILES, model_files};

/// A fixture model in a folder of this process.
static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = std::env::temp_dir().join(format!("vector_embed_fuzz_{}", std::process::id()));
    copy(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden/models/tiny-mpnet"), &target);
    target
});

fn copy(from: &PathBuf, to: &PathBuf) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the fixture").flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    let file = MODEL.join(FILES[usize::from(which) % FILES.len()]);
    let whole = fs::read(&file).ok();
    fs::write(&file, bytes).expect("it can be written");
    model_files(&MODEL);
    match whole {
        Some(whole) => fs::write(&file, whole).expect("it can be written"),
        None => fs::remove_file(&file).expect("it is there"),
    }
});
