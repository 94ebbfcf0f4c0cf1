//! The rules of ARCHITECTURE.md about who may know whom, read from the sources.

use std::fs;
use std::path::{Path, PathBuf};

use vector_embed_e2e::repository;

/// A source file, by its path in the repository.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_in(&self, place: &str) -> bool {
        self.path.starts_with(place)
    }

    /// The lines that are not comments.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
    }

    /// The modules of its own crate that it names, as `crate::module`, grouped imports included.
    fn modules(&self) -> Vec<String> {
        let code: String = self.code().collect::<Vec<_>>().join(" ");
        code.match_indices("crate::")
            .filter(|(at, _)| {
                !code[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            })
            .flat_map(|(at, found)| first_names(&code[at + found.len()..]))
            .collect()
    }
}

/// The first names of a path after `crate::`: one, or all of a group in braces.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|character| character.is_alphanumeric() || *character == '_')
            .collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let mut depth = 0;
    let mut names = vec![name(group)];
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// All files below `place` whose name ends with `ending`.
fn sources(place: &str, ending: &str) -> Vec<Source> {
    let root = repository::root();
    let mut files = Vec::new();
    collect(&root.join(place), ending, &mut files);
    assert!(!files.is_empty(), "nothing to check in {place}");
    files
        .into_iter()
        .map(|file| Source {
            path: file.strip_prefix(&root).expect("a file of the repository").display().to_string(),
            text: fs::read_to_string(&file).expect("a text file"),
        })
        .collect()
}

fn collect(directory: &Path, ending: &str, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, ending, files);
        } else if path.to_string_lossy().ends_with(ending) {
            files.push(path);
        }
    }
}

/// The crates that a Cargo.toml depends on: names at the start of a line within a section of dependencies.
fn dependencies(manifest: &Source) -> Vec<String> {
    let mut within = false;
    let mut names = Vec::new();
    for line in manifest.text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            within = section.trim_end_matches(']').ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                names.push(name.trim_end_matches(']').to_owned());
            }
        } else if within && let Some((name, _)) = line.split_once(['=', '.']) {
            names.push(name.trim().to_owned());
        }
    }
    names
}

fn manifests() -> Vec<Source> {
    let mut manifests: Vec<Source> =
        ["crates", "tests", "benches"].into_iter().flat_map(|place| sources(place, "Cargo.toml")).collect();
    let path = "Cargo.toml".to_owned();
    let text = fs::read_to_string(repository::root().join(&path)).expect("the workspace's manifest");
    manifests.push(Source { path, text });
    manifests
}

#[test]
fn nothing_under_crates_knows_pgrx() {
    for manifest in sources("crates", "Cargo.toml") {
        assert!(!manifest.text.contains("pgrx"), "{} mentions pgrx", manifest.path);
    }
    for source in sources("crates", ".rs") {
        let knows = source.code().any(|line| line.contains("pgrx"));
        assert!(!knows, "{} mentions pgrx", source.path);
    }
}

#[test]
fn only_the_engine_links_onnx_runtime_and_tokenizers() {
    for manifest in manifests() {
        let links = dependencies(&manifest)
            .into_iter()
            .any(|name| name == "ort" || name.starts_with("ort-") || name.starts_with("tokenizers"));
        let is_engine = manifest.path == "crates/engine/Cargo.toml";
        assert_eq!(links, is_engine, "{} links them", manifest.path);
    }
}

#[test]
fn nothing_imports_api() {
    for source in sources("src", ".rs") {
        if !source.is_in("src/api/") {
            let imports = source.modules().contains(&"api".to_owned());
            assert!(!imports, "{} imports api", source.path);
        }
    }
}

/// Fails unless files below `place` import only `allowed` modules and their own.
fn imports_only(place: &str, own: &str, allowed: &[&str]) {
    for source in sources(place, ".rs") {
        for module in source.modules() {
            assert!(module == own || allowed.contains(&module.as_str()), "{} imports {module}", source.path);
        }
    }
}

#[test]
fn api_imports_what_is_below_it() {
    imports_only("src/api", "api", &["queue", "attachment", "refresh", "client", "pg", "error"]);
}

#[test]
fn worker_imports_what_is_below_it() {
    imports_only("src/worker", "worker", &["queue", "attachment", "refresh", "client", "pg", "error"]);
}

#[test]
fn queue_imports_what_is_below_it() {
    imports_only("src/queue", "queue", &["attachment", "refresh", "pg", "error"]);
}

#[test]
fn refresh_imports_only_attachment_client_pg_and_error() {
    imports_only("src/refresh", "refresh", &["attachment", "client", "pg", "error"]);
}

#[test]
fn attachment_imports_only_client_pg_and_error() {
    imports_only("src/attachment", "attachment", &["client", "pg", "error"]);
}

#[test]
fn client_imports_only_pg_and_error() {
    imports_only("src/client", "client", &["pg", "error"]);
}

#[test]
fn pg_imports_only_error() {
    imports_only("src/pg", "pg", &["error"]);
}

#[test]
fn planner_imports_only_client_pg_and_error() {
    imports_only("src/planner", "planner", &["client", "pg", "error"]);
}

#[test]
fn fdw_imports_only_pg_and_error() {
    imports_only("src/fdw", "fdw", &["pg", "error"]);
}

#[test]
fn only_the_readers_link_sqlite() {
    for manifest in manifests() {
        let links = dependencies(&manifest).iter().any(|name| name == "rusqlite" || name == "libsqlite3-sys");
        // End-to-end tests write files with it.
        let may = ["crates/sources/Cargo.toml", "tests/e2e/Cargo.toml"].contains(&manifest.path.as_str());
        assert!(may || !links, "{} links SQLite", manifest.path);
    }
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    let is_unsafe = |source: &Source| {
        source.code().any(|line| {
            line.split(|character: char| !character.is_alphanumeric() && character != '_')
                .any(|word| word == "unsafe")
                // Attributes such as #[unsafe(no_mangle)] mark a name, not a block.
                && !line.starts_with("#[unsafe(")
        })
    };
    let mut in_engine = Vec::new();
    for source in ["src", "crates", "tests", "benches"]
        .into_iter()
        .flat_map(|place| sources(place, ".rs"))
        .filter(is_unsafe)
    {
        let allowed = ["src/pg/", "src/planner/", "src/fdw/", "src/worker/"]
            .into_iter()
            .any(|place| source.is_in(place));
        if source.is_in("crates/engine/") {
            in_engine.push(source.path);
        } else if source.path != "tests/e2e/tests/rules.rs" {
            assert!(allowed, "{} has unsafe code", source.path);
        }
    }
    assert!(in_engine.len() <= 1, "more than one file of the engine has unsafe code: {in_engine:?}");
}
