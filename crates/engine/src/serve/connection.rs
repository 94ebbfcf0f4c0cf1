//! One client: a task that reads its requests, and the writing of its answers.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc as blocking};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use vector_embed_protocol::{
    BUILD_ID, FRAME_HEADER_BYTES, FrameHeader, MAX_FRAME_BYTES, Malformed, PROTOCOL_VERSION, Reply, Request,
};

use super::Engine;
use crate::error::Error;
use crate::schedule::{Caller, Held, Job, Question};

/// A client that has begun a frame, or is being sent one, and then stands still for so long is given up.
const STALLED: Duration = Duration::from_secs(60);

/// Requests are read through a buffer of this size; larger payloads go past it.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// Who connects greets at once.
const GREETING: Duration = Duration::from_secs(10);

/// While others wait for the budget that a frame has taken, it has to come at this rate, but for a pause.
const LEAST_BYTES_PER_SECOND: usize = 4 << 20;
const PAUSE: Duration = Duration::from_secs(1);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Requests of one client that are not answered yet, or whose answers it has not read. Clients have two.
const MOST_REQUESTS: usize = 8;

/// Answers that a client may leave unread, in bytes. More are a client that never reads.
const MOST_UNREAD: usize = 256 << 20;

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
pub(super) struct Connection {
    id: u64,
    gone: AtomicBool,
    socket: OwnedWriteHalf,
    outgoing: Mutex<VecDeque<Outgoing>>,
    left_over: Notify,
    /// Has a permit for each request that may still be read.
    requests: Arc<Semaphore>,
    /// When the client has said something, last.
    heard: Mutex<Instant>,
    given_up: Notify,
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
    fn new(socket: OwnedWriteHalf) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            gone: AtomicBool::new(false),
            socket,
            outgoing: Mutex::default(),
            left_over: Notify::new(),
            requests: Arc::new(Semaphore::new(MOST_REQUESTS)),
            heard: Mutex::new(Instant::now()),
            given_up: Notify::new(),
        }
    }

    /// When the client was heard last, if it waits for nothing. The permit of its next request is taken already.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.requests.available_permits() + 1 >= MOST_REQUESTS).then(|| *self.lock_heard())
    }

    /// Closes the connection, to make room for another. A client that kept it for later finds out and comes again.
    pub(super) fn give_up(&self) {
        self.given_up.notify_one();
    }

    fn hear(&self) {
        *self.lock_heard() = Instant::now();
    }

    fn lock_heard(&self) -> MutexGuard<'_, Instant> {
        self.heard.lock().expect("no thread panics while it holds a time")
    }

    fn push(&self, frame: Outgoing) {
        let mut outgoing = self.lock();
        if self.gone() {
            return;
        }
        let unread: usize = outgoing.iter().map(|waiting| waiting.frame.len() - waiting.written).sum();
        if unread > MOST_UNREAD {
            return self.give_up();
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
    let (reader, socket) = stream.into_split();
    let connection = Arc::new(Connection::new(socket));
    engine.clients.add(connection.id, &connection);
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
    // However it ends, the client has left or is told to: both close the connection.
    tokio::select! {
        _ = read_requests(&mut reader, &connection, &engine) => {}
        () = connection.write_left_overs() => {}
        () = connection.given_up.notified() => {}
    }
    connection.close();
    engine.clients.remove(connection.id);
    engine.connections.fetch_sub(1, Ordering::Relaxed);
    drop((reader, connection));
    engine.room.notify_one();
}

async fn read_requests(
    reader: &mut BufReader<OwnedReadHalf>,
    connection: &Arc<Connection>,
    engine: &Arc<Engine>,
) -> io::Result<()> {
    let mut greeted = false;
    loop {
        let request = Arc::clone(&connection.requests).acquire_owned().await.map_err(io::Error::other)?;
        let mut head = [0; FRAME_HEADER_BYTES];
        match greeted {
            // It may take its time until it has another request.
            true => drop(reader.read_exact(&mut head[..1]).await?),
            false => drop(timeout(GREETING, reader.read_exact(&mut head[..1])).await??),
        }
        connection.hear();
        timeout(if greeted { STALLED } else { GREETING }, reader.read_exact(&mut head[1..])).await??;
        let header = match FrameHeader::parse(head) {
            Ok(header) if !greeted && header.length > FREE_FRAME_BYTES => {
                let (length, limit) = (header.length, FREE_FRAME_BYTES);
                return refuse(connection, &Malformed::TooLong { what: "greeting", length, limit });
            }
            Ok(header) => header,
            Err(malformed) => return refuse(connection, &malformed),
        };
        // Taken before the payload is read: what does not fit waits in the client, not here.
        let credits = engine.take_credits(header.length).await?;
        let payload = match greeted {
            true => read_payload(reader, header.length, connection, engine).await?,
            false => timeout(GREETING, read_payload(reader, header.length, connection, engine)).await??,
        };
        let held = (credits, request);
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

/// Reads a payload, from a client that has it ready: otherwise it is given up, early if others wait for what the payload
/// has taken of the budget.
async fn read_payload(
    reader: &mut BufReader<OwnedReadHalf>,
    length: usize,
    connection: &Connection,
    engine: &Engine,
) -> io::Result<Vec<u8>> {
    let begin = Instant::now();
    let mut payload = vec![0; length];
    let mut filled = 0;
    let mut last = begin;
    while filled < length {
        match timeout(LOOK, reader.read(&mut payload[filled..])).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(count)) => {
                filled += count;
                last = Instant::now();
                connection.hear();
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
        let due = PAUSE + Duration::from_secs_f64(filled as f64 / LEAST_BYTES_PER_SECOND as f64);
        let in_the_way = length > FREE_FRAME_BYTES && engine.is_pressed() && begin.elapsed() > due;
        if in_the_way || last.elapsed() > STALLED {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(payload)
}

impl Engine {
    /// Takes a frame's part of the budget, when there is so much.
    async fn take_credits(&self, length: usize) -> io::Result<OwnedSemaphorePermit> {
        let credits = if length > FREE_FRAME_BYTES { (length >> 10) as u32 + 1 } else { 0 };
        if let Ok(credits) = Arc::clone(&self.credits).try_acquire_many_owned(credits) {
            return Ok(credits);
        }
        let _waiting = Waiting::new(&self.waiting);
        Arc::clone(&self.credits).acquire_many_owned(credits).await.map_err(io::Error::other)
    }

    /// Whether frames wait for the budget.
    fn is_pressed(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// Counts who waits for the budget.
struct Waiting<'e>(&'e AtomicU64);

impl<'e> Waiting<'e> {
    fn new(count: &'e AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a client that its frame cannot be read, and ends the connection.
fn refuse(connection: &Connection, malformed: &Malformed) -> io::Result<()> {
    fail(connection, 0, &Error::BadRequest { reason: malformed.to_string() });
    Err(io::ErrorKind::InvalidData.into())
}

fn fail(connection: &Connection, id: u32, error: &Error) {
    reply(connection, &Reply::Failure(error.to_failure(id, None)));
}

fn reply(connection: &Connection, reply: &Reply<'_>) {
    reply_holding(connection, reply, None);
}

/// Keeps `held` until the client has read the answer.
fn reply_holding(connection: &Connection, reply: &Reply<'_>, held: Option<Held>) {
    let mut frame = Vec::new();
    reply.append(&mut frame);
    connection.send(frame, held);
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
            let stats = Reply::Stats { id, stats: Box::new(engine.stats()) };
            return reply_holding(connection, &stats, Some(held));
        }
        Request::ModelStats { id } => {
            let stats = Reply::ModelStats { id, models: engine.scheduler.models().stats() };
            return reply_holding(connection, &stats, Some(held));
        }
        Request::Models { id, name } => return describe_models(id, name, connection, engine, held),
        Request::Embed(embed) => {
            let question = Question::Embed {
                purpose: embed.purpose,
                overlong: embed.overlong,
                max_tokens: embed.max_tokens.map(|limit| limit as usize),
                isolated: embed.isolated,
                beginning: embed.beginning,
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
fn describe_models(
    id: u32,
    name: Option<&str>,
    connection: &Arc<Connection>,
    engine: &Arc<Engine>,
    held: Held,
) {
    let (connection, engine) = (Arc::clone(connection), Arc::clone(engine));
    let name = name.map(str::to_owned);
    tokio::task::spawn_blocking(move || {
        let store = engine.scheduler.models();
        let models = name.map_or_else(|| Ok(store.list()), |name| Ok(vec![store.describe(&name)?]));
        let answer = models.map_or_else(
            |error: Error| Reply::Failure(error.to_failure(id, None)),
            |models| Reply::Models { id, models },
        );
        reply_holding(&connection, &answer, Some(held));
    });
}

/// The largest frame can be let in at all.
const _: () = assert!((MAX_FRAME_BYTES >> 10) + 1 < super::QUEUE_CREDITS);
