//! Throwaway clusters.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};

use crate::account::{new_directory, output, server_program};
use crate::installation::Installation;
use crate::permits::Permit;
use crate::process::{self, Pid, Signal};
use crate::sql::execute;
use crate::{template, wait};

/// Lines of the server log that a failed test shows.
const LOG_TAIL: usize = 40;

/// A cluster and its server, reached by a Unix socket only.
pub struct Cluster {
    /// Holds the data directory, the socket and the log.
    directory: PathBuf,
    installation: Installation,
    arguments: Vec<String>,
    server: Option<Child>,
    permit: Option<Permit>,
}

/// The ways to stop a server, `pg_ctl`'s modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// When all sessions have ended.
    Smart,
    /// Ends the sessions.
    Fast,
    /// As in a crash.
    Immediate,
}

/// How a cluster is to be.
pub struct Options {
    installation: Installation,
    arguments: Vec<String>,
    alone: bool,
}

impl Options {
    /// On another installation than the one under test.
    pub fn installation(mut self, installation: &Installation) -> Self {
        self.installation = installation.clone();
        self
    }

    /// With a setting, which no other source can then change.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend(["-c".to_owned(), format!("{name}={value}")]);
        self
    }

    /// With an engine that computes each text, also one that it has seen: for tests that watch it at work.
    pub fn uncached(self) -> Self {
        self.setting("vector_embed.cache_size", "0")
    }

    /// While no other cluster runs: for tests that measure times.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Starts it.
    pub fn start(self) -> Cluster {
        let permit = if self.alone { Permit::all() } else { Permit::one() };
        let directory = new_directory("cluster");
        template::copy_data(&directory.join("data"));
        let mut cluster = Cluster::over(directory, self.installation);
        cluster.arguments = self.arguments;
        cluster.permit = Some(permit);
        cluster.start();
        cluster
    }
}

impl Cluster {
    /// A cluster that has yet to be described.
    pub fn with() -> Options {
        Options { installation: Installation::under_test(), arguments: Vec::new(), alone: false }
    }

    /// An ordinary cluster, started.
    pub fn new() -> Self {
        Self::with().start()
    }

    /// A cluster over `directory/data`, not started.
    pub(crate) fn over(directory: PathBuf, installation: Installation) -> Self {
        Self { directory, installation, arguments: Vec::new(), server: None, permit: None }
    }

    /// Another cluster of the same installation, started. It counts as part of this one.
    pub fn companion(&self) -> Self {
        let directory = new_directory("cluster");
        template::copy_data(&directory.join("data"));
        let mut companion = Self::over(directory, self.installation.clone());
        companion.arguments = self.arguments.clone();
        companion.start();
        companion
    }

    /// Stops this cluster for good, has pg_upgrade make another one of it, and starts that. It counts as part of this
    /// one.
    pub fn upgrade(&mut self) -> Self {
        self.stop(Stop::Fast);
        let directory = new_directory("cluster");
        let data = directory.join("data");
        template::init(&self.installation, &data);
        let programs = self.installation.program("");
        let mut command = server_program(self.installation.program("pg_upgrade"));
        command.args(["-U", "postgres", "-b"]).arg(&programs).arg("-B").arg(&programs);
        command.arg("-d").arg(self.data()).arg("-D").arg(data).current_dir(&directory);
        output(&mut command);
        let mut upgraded = Self::over(directory, self.installation.clone());
        upgraded.start();
        upgraded
    }

    /// A streaming standby of this cluster, started. It counts as part of it.
    pub fn standby(&self) -> Self {
        let directory = new_directory("cluster");
        self.base_backup(&directory.join("data"), &["-R"]);
        let mut standby = Self::over(directory, self.installation.clone());
        standby.start();
        standby
    }

    /// Takes a base backup to `target`, which user postgres must be able to make.
    pub fn base_backup(&self, target: &Path, options: &[&str]) {
        let mut command = self.client_program("pg_basebackup");
        command.args(["-X", "stream", "-c", "fast", "-D"]).arg(target).args(options);
        output(&mut command);
    }

    /// A client program of the installation, set up to connect as superuser.
    pub fn client_program(&self, name: &str) -> std::process::Command {
        let mut command = server_program(self.installation.program(name));
        command.env("PGHOST", &self.directory).env("PGPORT", "5432").env("PGUSER", "postgres");
        command
    }

    /// Runs a client program as superuser to its end and returns what it printed. `command` is its name and its
    /// arguments, separated by blanks.
    pub fn run(&self, command: &str) -> String {
        let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
        output(self.client_program(program).args(arguments.split_whitespace()))
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Where the server listens, on port 5432.
    pub fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// The directory where backends, supervisor and engine meet.
    pub fn runtime_directory(&self) -> PathBuf {
        self.data().join("base/pgsql_tmp_vector_embed")
    }

    /// How to connect as superuser to database postgres.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(&self.directory).port(5432).user("postgres").dbname("postgres");
        config
    }

    /// A new session of the superuser in database postgres.
    pub fn connect(&self) -> Client {
        self.config().connect(NoTls).expect("the server takes connections")
    }

    /// A new session of the superuser in another database.
    pub fn connect_to(&self, database: &str) -> Client {
        self.config().dbname(database).connect(NoTls).expect("the server takes connections")
    }

    /// A new session of another user.
    pub fn connect_as(&self, user: &str, database: &str) -> Client {
        self.config().user(user).dbname(database).connect(NoTls).expect("the server takes connections")
    }

    /// Makes an empty database and connects to it.
    pub fn empty_database(&self, name: &str) -> Client {
        execute(&mut self.connect(), &format!("CREATE DATABASE {name} TEMPLATE template0"));
        self.connect_to(name)
    }

    /// Makes a database with the extension and connects to it.
    pub fn database(&self, name: &str) -> Client {
        let mut client = self.empty_database(name);
        // That the extension vector is created, too, is no news.
        execute(&mut client, "SET client_min_messages = warning; CREATE EXTENSION vector_embed CASCADE");
        execute(&mut client, "RESET client_min_messages");
        client
    }

    /// Starts the server and waits until it takes connections.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .expect("the log can be written");
        let mut command = server_program(self.installation.program("postgres"));
        command
            .arg("-D")
            .arg(self.data())
            .args(["-c", "port=5432", "-c"])
            .arg(format!("unix_socket_directories={}", self.directory.display()))
            .args(&self.arguments)
            .stdout(log.try_clone().expect("a descriptor is free"))
            .stderr(log)
            // An interrupt at the terminal is for the tests; the server they stop themselves.
            .process_group(0);
        self.server = Some(command.spawn().expect("the server can be executed"));
        wait::until("the server takes connections", || self.is_ready());
    }

    /// Whether the postmaster says so in its file. Ends the test if the server has ended.
    fn is_ready(&mut self) -> bool {
        let server = self.server.as_mut().expect("a server was started");
        if let Some(status) = server.try_wait().expect("the server is our child") {
            self.server = None;
            panic!("the server ended with {status}");
        }
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = file.lines().collect();
        lines.first().is_some_and(|pid| *pid == self.postmaster().to_string())
            && matches!(lines.get(7).map(|status| status.trim()), Some("ready" | "standby"))
    }

    /// Stops the server.
    pub fn stop(&mut self, how: Stop) {
        let mode = match how {
            Stop::Smart => "smart",
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let mut command = server_program(self.installation.program("pg_ctl"));
        command.args(["stop", "-w", "-s", "-t", "60", "-m", mode, "-D"]).arg(self.data());
        output(&mut command);
        self.wait_for_end();
    }

    /// Ends the postmaster as a crash of the machine would, and waits until its children have found out: before, no other
    /// server may start.
    pub fn kill(&mut self) {
        process::send(self.postmaster(), Signal::KILL);
        self.wait_for_end();
        wait::until("its children have ended", || self.processes().is_empty());
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("the server runs");
        server.wait().expect("the server is our child")
    }

    /// The postmaster's process id.
    pub fn postmaster(&self) -> Pid {
        self.server.as_ref().expect("the server runs").id() as Pid
    }

    /// All processes of the server, the engine included, also those whose parent has ended.
    pub fn processes(&self) -> Vec<Pid> {
        process::working_in(&self.data())
    }

    /// The processes that run the engine's executable.
    pub fn engines(&self) -> Vec<Pid> {
        let is_engine = |pid: &Pid| process::title(*pid).contains("/vector_embed_engine serve");
        self.processes().into_iter().filter(is_engine).collect()
    }

    /// The queue workers.
    pub fn queue_workers(&self) -> Vec<Pid> {
        let is_worker = |pid: &Pid| process::title(*pid).starts_with("postgres: vector_embed queue worker");
        self.processes().into_iter().filter(is_worker).collect()
    }

    /// The supervisors. A child of one that is about to become an engine is none.
    pub fn supervisors(&self) -> Vec<Pid> {
        let postmaster = self.postmaster();
        let is_supervisor = |pid: &Pid| {
            process::title(*pid).starts_with("postgres: vector_embed supervisor")
                && process::parent(*pid) == Some(postmaster)
        };
        self.processes().into_iter().filter(is_supervisor).collect()
    }

    /// The one engine there should be, once there is no more and no less.
    pub fn engine(&self) -> Pid {
        wait::found("there is one engine", || match self.engines().as_slice() {
            [engine] => Some(*engine),
            _ => None,
        })
    }

    /// The one supervisor there should be.
    pub fn supervisor(&self) -> Pid {
        wait::found("there is one supervisor", || match self.supervisors().as_slice() {
            [supervisor] => Some(*supervisor),
            _ => None,
        })
    }

    /// The server log.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.directory.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Shows the end of the log if the test has failed.
    fn explain_failure(&self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            eprintln!("--- server log of {}\n{}\n---", self.directory.display(), tail.join("\n"));
        }
    }

    /// Ends the server and everything it started, whatever state it is in.
    fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            process::send(server.id() as Pid, Signal::QUIT);
            let begin = Instant::now();
            while matches!(server.try_wait(), Ok(None)) {
                if begin.elapsed() > Duration::from_secs(10) {
                    process::send(server.id() as Pid, Signal::KILL);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let begin = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() || begin.elapsed() > Duration::from_secs(20) {
                return;
            }
            if begin.elapsed() > Duration::from_secs(10) {
                left.into_iter().for_each(|pid| process::send(pid, Signal::KILL));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.explain_failure();
        self.end();
        // What cannot be removed now goes with the run's directory.
        let _ = fs::remove_dir_all(&self.directory);
        drop(self.permit.take());
    }
}

/// A cluster that several tests use at once. They leave settings, models and processes alone. It has no cache, in
/// which one would find what another has embedded.
pub struct Shared(Arc<Cluster>);

impl Shared {
    /// The shared cluster, started if nobody uses it at the moment.
    pub fn get() -> Self {
        static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut known = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = known.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Cluster::with().uncached().start());
            *known = Arc::downgrade(&cluster);
            cluster
        });
        Self(cluster)
    }
}

impl std::ops::Deref for Shared {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last user's test need not be the one that failed.
        self.0.explain_failure();
    }
}
