//! Looking at processes through /proc.

use std::fs;
use std::path::{Path, PathBuf};

pub use rustix::process::Signal;

/// A process id.
pub type Pid = i32;

/// All processes.
pub fn all() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").expect("/proc can be listed");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// All processes whose working directory is `directory`: those of a server are in its data directory, and so is
/// its engine, even when its parent has gone. Zombies have no directory.
pub fn working_in(directory: &Path) -> Vec<Pid> {
    all().into_iter().filter(|pid| fs::read_link(of(*pid, "cwd")).is_ok_and(|cwd| cwd == directory)).collect()
}

/// Command line or title, arguments separated by blanks; empty if the process is gone.
pub fn title(pid: Pid) -> String {
    let bytes = fs::read(of(pid, "cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    text.trim_end().to_owned()
}

/// The parent's process id.
pub fn parent(pid: Pid) -> Option<Pid> {
    let status = fs::read_to_string(of(pid, "status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// What the open descriptors refer to.
pub fn descriptors(pid: Pid) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(of(pid, "fd")).expect("the process's descriptors can be listed");
    entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?))
        })
        .collect()
}

/// A number that the kernel keeps in a file of its own, such as `oom_score_adj`.
pub fn number(pid: Pid, file: &str) -> i64 {
    fs::read_to_string(of(pid, file))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_else(|| panic!("process {pid} has no number \"{file}\""))
}

/// What `/proc/PID/status` tells of memory, in kilobytes, such as `VmHWM`, the most that was resident.
pub fn memory(pid: Pid, name: &str) -> i64 {
    let status = fs::read_to_string(of(pid, "status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or_else(|| panic!("process {pid} does not tell {name}"))
}

/// Whether there is such a process; a zombie is none.
pub fn is_alive(pid: Pid) -> bool {
    fs::read_to_string(of(pid, "status")).is_ok_and(|status| !status.contains("State:\tZ"))
}

/// Sends a signal; a process that has just gone is no error.
pub fn send(pid: Pid, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id is positive");
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("could not signal process {pid:?}: {error}"),
    }
}

fn of(pid: Pid, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}
