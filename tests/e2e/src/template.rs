//! The data directory that all clusters are copies of.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::account::{new_directory, output, server_program};
use crate::cluster::{Cluster, Stop};
use crate::installation::Installation;
use crate::run;

/// Nothing here outlives a power failure, and nobody outside comes in.
const SETTINGS: &str = "
fsync = off
listen_addresses = ''
shared_buffers = 16MB
min_wal_size = 8MB
max_wal_size = 128MB
log_line_prefix = '%m [%p] '
";

/// A data directory, not in use, whose database postgres has the extension. Made once in a run.
pub fn data() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(make)
}

/// Copies a data directory with its owners and modes.
pub fn copy_data(to: &Path) {
    output(Command::new("cp").arg("-a").arg(data()).arg(to));
}

/// Makes an empty data directory.
pub fn init(installation: &Installation, data: &Path) {
    let mut initdb = server_program(installation.program("initdb"));
    // Small segments of the log, because each cluster begins with a copy of one.
    let options = "-U postgres -A trust -E UTF8 --locale=C.UTF-8 -N --wal-segsize=1";
    initdb.arg("-D").arg(data).args(options.split(' '));
    output(&mut initdb);
    let mut settings = OpenOptions::new()
        .append(true)
        .open(data.join("postgresql.conf"))
        .expect("initdb made a configuration file");
    settings.write_all(SETTINGS.as_bytes()).expect("the disk has room");
}

fn make() -> PathBuf {
    let installation = Installation::under_test();
    let directory = new_directory("cluster");
    let data = directory.join("data");
    init(&installation, &data);
    let mut cluster = Cluster::over(directory, installation);
    cluster.start();
    cluster
        .connect()
        .batch_execute("CREATE EXTENSION vector_embed CASCADE")
        .expect("the extension can be created");
    cluster.stop(Stop::Fast);
    let kept = run::new_path("template");
    fs::rename(data, &kept).expect("a directory can be renamed");
    kept
}
