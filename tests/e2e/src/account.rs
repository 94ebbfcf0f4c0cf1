//! Running the server's programs as the user they insist on.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::run;

/// The user and group that server programs get, or `None` where they run as the caller.
fn server_account() -> Option<(u32, u32)> {
    static ACCOUNT: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *ACCOUNT.get_or_init(|| {
        rustix::process::geteuid().is_root().then(|| (number_of_postgres("-u"), number_of_postgres("-g")))
    })
}

fn number_of_postgres(option: &str) -> u32 {
    let output = Command::new("id").args([option, "postgres"]).output().expect("the program id runs");
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("root runs servers as user postgres, who must exist")
}

/// A command that runs `program` of the server's: as user postgres if the caller is root, from a directory that
/// this user can enter, and without the caller's environment, above all without its libpq variables.
pub fn server_program(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    if let Some((user, group)) = server_account() {
        command.uid(user).gid(group);
    }
    command
}

/// Runs a command to its end and returns what it printed.
pub fn output(command: &mut Command) -> String {
    let output = command.output().expect("the program can be executed");
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Gives `path` to the user who runs the server's programs.
pub fn give_to_server(path: &Path) {
    if let Some((user, group)) = server_account() {
        chown(path, Some(user), Some(group)).expect("root may give files away");
    }
}

/// A new directory in the run's that the server's programs may write to.
pub fn new_directory(what: &str) -> PathBuf {
    let directory = run::new_path(what);
    fs::create_dir(&directory).expect("the run's directory has room");
    give_to_server(&directory);
    directory
}
