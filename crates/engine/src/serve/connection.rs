//! One client: a task that reads its requests, and the writing of its answers.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc as blocking};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::timeout;
use vector_embed_protocol::{
    BUILD_ID, FRAME_HEADER_BYTES, FrameHeader, MAX_FRAME_BYTES, PROTOCOL_VERSION, Reply, Request,
};

use super::Engine;
use crate::error::Error;
use crate::schedule::{Caller, Held, Job, Question};

/// A client that has begun a frame, or is being sent one, and then stands still for so long is given up.
const STALLED: Duration = Duration::from_secs(60);

/// Requests are read through a buffer of this size; larger payloads go past it.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// How long a frame that others wait for may stay unread.
const UNREAD: Duration = Duration::from_millis(200);
/// Frames up to this size take no part of the budget, so that a full queue keeps nobody from being greeted.
const FREE_FRAME_BYTES: usize = 4 << 10;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A frame on its way out, and what is let go when it is sent.
struct Outgoing {
    frame: Vec<u8>,
    written: usize,
    _held: Option<Held>,
    sent: Option<blocking::SyncSender<()>>,
}

/// The side of a connection that the scheduler sees.
///
/// An answer is written by the thread that has it, so that it does not wait for another to wake up. What the
/// socket does not take at once is left to the connection's own task.
struct Connection {
    id: u64,
    gone: AtomicBool,
    socket: OwnedWriteHalf,
    outgoing: Mutex<VecDeque<Outgoing>>,
    left_over: Notify,
}

impl Caller for Connection {
    fn id(&self) -> u64 {
        self.id
    }

    fn gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn send(&self, frame: Vec<u8>, held: Option<Held>) {
        self.push(Outgoing { frame, written: 0, _held: held, sent: None });
    }

    fn send_now(&self, frame: Vec<u8>) {
        let (sent, done) = blocking::sync_channel(1);
        self.push(Outgoing { frame, written: 0, _held: None, sent: Some(sent) });
        // A client that waits for its answers reads them. One that does not must not hold up the others.
        if done.recv_timeout(UNREAD).is_err() {
            self.close();
        }
    }
}

impl Connection {
    fn push(&self, frame: Outgoing) {
        let mut outgoing = self.lock();
        if self.gone() {
            return;
        }
        outgoing.push_back(frame);
        if outgoing.len() == 1 && !self.write_some(&mut outgoing) {
            self.left_over.notify_one();
        }
    }

    /// Writes as much as the socket takes without waiting; true if nothing is left or nobody reads any more.
    fn write_some(&self, outgoing: &mut VecDeque<Outgoing>) -> bool {
        while let Some(front) = outgoing.front_mut() {
            match self.socket.try_write(&front.frame[front.written..]) {
                Ok(count) => front.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // The reading side notices as well.
                Err(_) => outgoing.clear(),
            }
            if let Some(done) = outgoing.pop_front_if(|front| front.written == front.frame.len())
                && let Some(sent) = done.sent
            {
                let _ = sent.send(());
            }
        }
        true
    }

    /// Writes what was left over, until the client stands still for too long.
    async fn write_left_overs(&self) {
        loop {
            self.left_over.notified().await;
            while !self.lock().is_empty() {
                match timeout(STALLED, self.socket.writable()).await {
                    Ok(Ok(())) => {}
                    _ => return,
                }
                let mut outgoing = self.lock();
                self.write_some(&mut outgoing);
            }
        }
    }

    /// Marks the client as gone and lets its answers go.
    fn close(&self) {
        let mut outgoing = self.lock();
        self.gone.store(true, Ordering::Relaxed);
        outgoing.clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Outgoing>> {
        self.outgoing.lock().expect("no thread panics while it holds the frames")
    }
}

/// Serves one client until it leaves or breaks the protocol.
pub(super) async fn serve(stream: UnixStream, engine: Arc<Engine>) {
    engine.connections.fetch_add(1, Ordering::Relaxed);
    let (reader, socket) = stream.into_split();
    let connection = Arc::new(Connection {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        gone: AtomicBool::new(false),
        socket,
        outgoing: Mutex::default(),
        left_over: Notify::new(),
    });
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
    // However it ends, the client has left or is told to: both close the connection.
    tokio::select! {
        _ = read_requests(&mut reader, &connection, &engine) => {}
        () = connection.write_left_overs() => {}
    }
    connection.close();
    engine.connections.fetch_sub(1, Ordering::Relaxed);
}

async fn read_requests(
    reader: &mut BufReader<OwnedReadHalf>,
    connection: &Arc<Connection>,
    engine: &Arc<Engine>,
) -> io::Result<()> {
    let mut greeted = false;
    loop {
        let mut head = [0; FRAME_HEADER_BYTES];
        reader.read_exact(&mut head).await?;
        let header = match FrameHeader::parse(head) {
            Ok(header) => header,
            Err(malformed) => return refuse(connection, &malformed),
        };
        // Taken before the payload is read: what does not fit waits in the client, not here.
        let credits = if header.length > FREE_FRAME_BYTES { (header.length >> 10) as u32 + 1 } else { 0 };
        let held = Arc::clone(&engine.credits).acquire_many_owned(credits).await.map_err(io::Error::other)?;
        let mut payload = vec![0; header.length];
        timeout(STALLED, reader.read_exact(&mut payload)).await??;
        match Request::decode(header.kind, &payload) {
            Err(malformed) => return refuse(connection, &malformed),
            Ok(Request::Hello { version, build }) if !greeted => {
                greet(connection, engine, version, build)?;
                greeted = true;
            }
            Ok(request) if greeted => accept(request, connection, engine, Box::new(held)),
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Tells a client that its frame cannot be read, and ends the connection.
fn refuse(connection: &Connection, malformed: &vector_embed_protocol::Malformed) -> io::Result<()> {
    fail(connection, 0, &Error::BadRequest { reason: malformed.to_string() });
    Err(io::ErrorKind::InvalidData.into())
}

fn fail(connection: &Connection, id: u32, error: &Error) {
    reply(connection, &Reply::Failure(error.to_failure(id, None)));
}

fn reply(connection: &Connection, reply: &Reply<'_>) {
    let mut frame = Vec::new();
    reply.append(&mut frame);
    connection.send(frame, None);
}

/// Answers the handshake. A library of another build is the sign that an installation has taken place: if this
/// engine was replaced too, it makes room for its successor.
fn greet(connection: &Connection, engine: &Engine, version: u16, build: &str) -> io::Result<()> {
    let refused = if build != BUILD_ID && engine.executable.replaced() {
        engine.stop.notify_one();
        Some(Error::Retiring)
    } else if version != PROTOCOL_VERSION {
        Some(Error::Version { client: build.to_owned() })
    } else {
        None
    };
    if let Some(error) = refused {
        fail(connection, 0, &error);
        return Err(io::ErrorKind::Unsupported.into());
    }
    let pid = std::process::id();
    reply(connection, &Reply::Welcome { version: PROTOCOL_VERSION, build: BUILD_ID, pid });
    Ok(())
}

fn accept(request: Request<'_>, connection: &Arc<Connection>, engine: &Arc<Engine>, held: Held) {
    let (id, question, model, expected_hash, texts) = match request {
        Request::Hello { .. } => {
            return fail(connection, 0, &Error::BadRequest { reason: "second greeting".into() });
        }
        Request::Stats { id } => {
            return reply(connection, &Reply::Stats { id, stats: Box::new(engine.stats()) });
        }
        Request::ModelStats { id } => {
            return reply(connection, &Reply::ModelStats { id, models: engine.scheduler.models().stats() });
        }
        Request::Models { id, name } => return describe_models(id, name, connection, engine),
        Request::Embed(embed) => {
            let question = Question::Embed {
                purpose: embed.purpose,
                overlong: embed.overlong,
                max_tokens: embed.max_tokens.map(|limit| limit as usize),
                isolated: embed.isolated,
            };
            (embed.id, question, embed.model, embed.expected_hash, embed.texts)
        }
        Request::Chunk(chunk) => (chunk.id, Question::Chunk(chunk.rule), chunk.model, None, chunk.texts),
        Request::TokenCount { id, model, texts } => (id, Question::TokenCount, model, None, texts),
    };
    if texts.is_empty() {
        return fail(connection, id, &Error::BadRequest { reason: "a request without texts".into() });
    }
    engine.scheduler.submit(Job {
        caller: Arc::clone(connection) as Arc<dyn Caller>,
        id,
        question,
        model: model.to_owned(),
        expected_hash: expected_hash.map(str::to_owned),
        texts: texts.iter().map(Box::from).collect(),
        arrived: Instant::now(),
        held,
    });
}

/// Reads directories and perhaps hashes models, so it goes to a thread of its own.
fn describe_models(id: u32, name: Option<&str>, connection: &Arc<Connection>, engine: &Arc<Engine>) {
    let (connection, engine) = (Arc::clone(connection), Arc::clone(engine));
    let name = name.map(str::to_owned);
    tokio::task::spawn_blocking(move || {
        let store = engine.scheduler.models();
        match name.map_or_else(|| Ok(store.list()), |name| Ok(vec![store.describe(&name)?])) {
            Ok(models) => reply(&connection, &Reply::Models { id, models }),
            Err(error) => fail(&connection, id, &error),
        }
    });
}

/// The largest frame can be let in at all.
const _: () = assert!((MAX_FRAME_BYTES >> 10) + 1 < super::QUEUE_CREDITS);
