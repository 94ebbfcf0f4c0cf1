//! The engine as a server on a Unix socket.

mod clients;
mod connection;
mod retire;
mod status;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};

use crate::compute::{Decorate, Runtime};
use crate::model::Catalog;
use crate::schedule::{Limits, ModelStore, Scheduler};
use clients::Clients;
use retire::Executable;

/// File name of the socket in the runtime directory.
pub const SOCKET: &str = "engine.sock";

/// What requests that are not answered yet may hold, in KiB of frames. Connections whose requests do not fit are
/// not read from until they do.
const QUEUE_CREDITS: usize = 256 << 10;

/// How often the engine looks for batches that do not end and models that nobody uses.
const WATCH: Duration = Duration::from_secs(1);

/// When to try again to accept a connection.
const AGAIN: Duration = Duration::from_millis(50);

/// How long the batch under way may take when the engine is asked to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Raised over whatever the server has: under memory pressure the engine goes first, it costs no session.
const OOM_SCORE_ADJUSTMENT: &str = "800";

/// How the engine is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the socket is made, and the only place that is written to.
    pub directory: PathBuf,
    /// Directories that hold models.
    pub models: Vec<PathBuf>,
    /// ONNX Runtime's shared library.
    pub runtime: PathBuf,
    /// Threads that compute one batch.
    pub threads: usize,
    /// Padded tokens of one batch.
    pub batch_tokens: usize,
    /// Bytes of vectors that are kept for texts that come again.
    pub cache_bytes: usize,
    /// How much memory models may take, and for how long nobody may use them.
    pub limits: Limits,
    /// How often the supervisor has started an engine after its first.
    pub restarts: u64,
}

/// What all connections share.
struct Engine {
    scheduler: Arc<Scheduler>,
    credits: Arc<Semaphore>,
    executable: Executable,
    stop: Notify,
    connections: AtomicU64,
    clients: Clients,
    /// A connection has ended.
    room: Notify,
    /// Frames that wait for the budget.
    waiting: AtomicU64,
    started_at: u64,
    restarts: u64,
}

/// Serves until the process is told to stop by SIGTERM or its executable is replaced.
pub fn run(options: &Options, decorate: Decorate) -> io::Result<()> {
    raise_oom_score();
    raise_descriptor_limit();
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = Arc::new(Runtime::new(&options.runtime, options.threads));
    let models = ModelStore::new(Catalog::new(options.models.clone()), runtime, decorate, options.limits);
    let engine = Arc::new(Engine {
        scheduler: Scheduler::start(models, options.batch_tokens, options.cache_bytes, &options.directory)?,
        credits: Arc::new(Semaphore::new(QUEUE_CREDITS)),
        executable: Executable::current()?,
        stop: Notify::new(),
        connections: AtomicU64::new(0),
        clients: Clients::within(getrlimit(Resource::Nofile).current),
        room: Notify::new(),
        waiting: AtomicU64::new(0),
        started_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64,
        restarts: options.restarts,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(&engine, &options.directory));
    // Answers of the last batches may still be on their way through the runtime.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn serve(engine: &Arc<Engine>, directory: &Path) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = listen(&directory.join(SOCKET))?;
    let mut watch = tokio::time::interval(WATCH);
    loop {
        let have_room = engine.clients.have_room(engine.connections.load(Ordering::Relaxed));
        if !have_room {
            engine.clients.make_room();
        }
        tokio::select! {
            accepted = listener.accept(), if have_room => match accepted {
                Ok((stream, _)) => {
                    engine.connections.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(connection::serve(stream, Arc::clone(engine)));
                }
                // The system is out of descriptors, most likely: callers wait in the backlog until some are free.
                Err(_) => tokio::time::sleep(AGAIN).await,
            },
            () = engine.room.notified(), if !have_room => {}
            () = tokio::time::sleep(AGAIN), if !have_room => {}
            _ = watch.tick() => {
                engine.scheduler.abort_if_stuck();
                // A large model takes its time to go.
                let scheduler = Arc::clone(&engine.scheduler);
                tokio::task::spawn_blocking(move || scheduler.models().unload_idle());
            }
            _ = terminate.recv() => break,
            () = engine.stop.notified() => break,
        }
    }
    drop(listener);
    let scheduler = Arc::clone(&engine.scheduler);
    let handed_over = tokio::task::spawn_blocking(move || scheduler.hand_over(DRAIN));
    handed_over.await.map_err(io::Error::other)?;
    // What the sockets did not take at once gets its turn.
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}

/// A socket file of an earlier engine would make `bind` fail: a server that is stopped fast leaves it behind.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Every session keeps a connection, and the server's own limit is made for files.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Without it the engine serves fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn raise_oom_score() {
    // Only a preference: without /proc the engine works as well.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT);
}
