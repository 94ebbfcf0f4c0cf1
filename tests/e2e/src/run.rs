//! The directory of this run.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ends what still works below the directory and removes it, once the test program has ended: then its standard
/// input ends. SIGQUIT is an immediate shutdown to a server, and death to an engine. A program that was making a
/// copy when the tests were killed may fill the directory once more. It has a process group of its own, for whoever
/// kills the tests with all that they have started may do so by SIGKILL.
const JANITOR: &str = r#"
trap '' INT TERM HUP
cat
busy() {
    for process in /proc/[0-9]*; do
        case $(readlink "$process/cwd") in "$0"/*) echo "${process#/proc/}" ;; esac
    done
}
tries=0
while [ -e "$0" ] && [ $tries -lt 100 ]; do
    pids=$(busy)
    if [ -z "$pids" ]; then rm -rf -- "$0"
    elif [ $tries -lt 90 ]; then kill -QUIT $pids
    else kill -KILL $pids
    fi
    tries=$((tries + 1))
    sleep 0.1
done
"#;

struct Run {
    directory: PathBuf,
    /// Holds the other end of the janitor's standard input.
    _janitor: Child,
}

/// The directory of this run. Its path is short, for sockets are made below it; user postgres can enter it.
pub fn directory() -> &'static Path {
    static RUN: OnceLock<Run> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let directory = tempfile::Builder::new()
            .prefix("vector_embed_e2e.")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in("/var/tmp")
            .expect("/var/tmp can be written to")
            .keep();
        let janitor = Command::new("sh")
            .args(["-c", JANITOR])
            .arg(&directory)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        Run { directory, _janitor: janitor }
    });
    &run.directory
}

/// A path in the run's directory that nothing has used yet.
pub fn new_path(what: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    directory().join(format!("{what}{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}
