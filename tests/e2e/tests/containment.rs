//! What the engine has of the server, and what the server shows of the engine: as little as possible.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use vector_embed_e2e::account::give_to_server;
use vector_embed_e2e::cluster::Shared;
use vector_embed_e2e::golden;
use vector_embed_e2e::process;
use vector_embed_e2e::run;
use vector_embed_e2e::sql::embed;

fn embedding_cluster() -> Shared {
    let cluster = Shared::get();
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut cluster.connect(), &golden.text).expect("a vector"));
    cluster
}

#[test]
fn the_engine_has_none_of_the_server_s_descriptors() {
    let cluster = embedding_cluster();
    let (engine, supervisor) = (cluster.engine(), cluster.supervisor());
    let is_pipe = |path: &PathBuf| path.to_string_lossy().starts_with("pipe:");
    let server_pipes: HashSet<PathBuf> = [cluster.postmaster(), supervisor]
        .into_iter()
        .flat_map(process::descriptors)
        .map(|(_, path)| path)
        .filter(is_pipe)
        .collect();
    assert!(!server_pipes.is_empty(), "the pipe that tells of the postmaster's death was looked for");
    for (number, path) in process::descriptors(engine) {
        assert!(
            !path.starts_with(cluster.data()),
            "descriptor {number} is {}, a file of the data directory",
            path.display()
        );
        assert!(
            !server_pipes.contains(&path),
            "descriptor {number} is {}, a pipe of the server",
            path.display()
        );
    }
}

#[test]
fn the_engine_is_the_first_to_go_when_memory_is_short() {
    let cluster = embedding_cluster();
    let score = |pid| process::number(pid, "oom_score_adj");
    let (engine, postmaster) = (score(cluster.engine()), score(cluster.postmaster()));
    assert!(engine > postmaster, "{engine} of the engine, {postmaster} of the postmaster");
}

#[test]
fn the_runtime_directory_is_the_server_s_alone() {
    let cluster = embedding_cluster();
    let mode = |path: PathBuf| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode(cluster.runtime_directory()), 0o700);
    for entry in fs::read_dir(cluster.runtime_directory()).expect("the directory").flatten() {
        let others = mode(entry.path()) & 0o077;
        assert_eq!(others, 0, "{} is open to others", entry.path().display());
    }
}

#[test]
fn base_backups_leave_the_runtime_directory_out() {
    let cluster = embedding_cluster();
    let backup = run::new_path("backup");
    fs::create_dir(&backup).expect("the run's directory has room");
    give_to_server(&backup);
    cluster.base_backup(&backup, &[]);
    assert!(backup.join("PG_VERSION").is_file(), "the backup is there");
    assert!(cluster.runtime_directory().is_dir());
    assert!(!backup.join("base/pgsql_tmp_vector_embed").exists());
    fs::remove_dir_all(backup).expect("the backup can be removed");
}
