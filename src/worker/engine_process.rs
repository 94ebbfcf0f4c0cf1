//! The engine as a child process.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::pg::settings::EngineSettings;
use crate::pg::{latch, paths, runtime_dir};

/// A running engine. It is ended when this value is dropped, and by the kernel when this process ends.
pub(super) struct EngineProcess {
    child: Child,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
}

/// How an engine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// As it was told to, or to make room for a newer build.
    InOrder,
    /// It could not serve, and says why in the server log.
    Refused(ExitStatus),
    /// By a signal, such as that of a crash or of the kernel out of memory.
    Crashed(ExitStatus),
}

/// Where the engine's executable is.
pub(super) fn executable() -> PathBuf {
    paths::bin_dir().join("vector_embed_engine")
}

impl EngineProcess {
    pub(super) fn start(settings: &EngineSettings, restarts: u64) -> io::Result<Self> {
        let models: Vec<String> = settings.models.iter().map(|path| path.display().to_string()).collect();
        let mut command = Command::new(executable());
        command
            .arg("serve")
            .args(["--directory", runtime_dir::PATH])
            .args(["--models", &models.join(":")])
            .arg("--runtime")
            .arg(paths::pkglib_dir().join("vector_embed/libonnxruntime.so"))
            .args(["--threads", &settings.threads.to_string()])
            .args(["--batch-tokens", &settings.batch_tokens.to_string()])
            .args(["--cache-size", &settings.cache_kilobytes.to_string()])
            .args(["--max-memory", &settings.max_memory_kilobytes.to_string()])
            .args(["--idle-timeout", &settings.idle_seconds.to_string()])
            .args(["--restarts", &restarts.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let supervisor = std::process::id();
        // SAFETY: between fork and exec the closure only makes system calls.
        unsafe { command.pre_exec(move || detach(supervisor)) };
        let started_at = SystemTime::now();
        Ok(Self { child: command.spawn()?, started: Instant::now(), started_at })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the engine ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<Ended>> {
        Ok(self.child.try_wait()?.map(|status| match status.code() {
            Some(0) => Ended::InOrder,
            Some(_) => Ended::Refused(status),
            None => Ended::Crashed(status),
        }))
    }

    /// Asks the engine to finish what is under way and end.
    pub(super) fn terminate(&self) {
        // SAFETY: the child has not been waited for, so its process id is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
    }

    /// Waits for at most `limit` until the engine has ended.
    pub(super) fn wait(&mut self, limit: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            latch::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a log tells of an exit status.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with exit code {code}"),
        (None, Some(signal)) => format!("was terminated by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// In the child: die with the supervisor, and keep none of the server's descriptors, above all not the pipe by
/// which its processes notice the postmaster's death.
fn detach(supervisor: u32) -> io::Result<()> {
    // SAFETY: plain system calls. The descriptors are marked rather than closed, because one of them reports a
    // failing exec to the parent.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::getppid() as u32 != supervisor {
            // The supervisor ended before the signal was set up.
            libc::_exit(1);
        }
        let close_on_exec = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, close_on_exec) != 0 {
            mark_one_by_one();
        }
    }
    Ok(())
}

/// For kernels before 5.11.
fn mark_one_by_one() {
    for descriptor in 3..65536 {
        // SAFETY: fails harmlessly for descriptors that are not open.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
