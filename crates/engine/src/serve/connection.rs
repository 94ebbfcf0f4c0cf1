//! One client: a task that reads its requests and a task that writes its answers.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc as blocking};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use vector_embed_protocol::{
    BUILD_ID, FRAME_HEADER_BYTES, FrameHeader, MAX_FRAME_BYTES, PROTOCOL_VERSION, Reply, Request,
};

use super::Engine;
use crate::error::Error;
use crate::schedule::{Caller, Held, Job, Question};

/// A client that has begun a frame, or is being sent one, and then stands still for so long is given up.
const STALLED: Duration = Duration::from_secs(60);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A frame on its way out.
struct Outgoing {
    frame: Vec<u8>,
    /// Given back when the frame is sent.
    held: Option<Held>,
    sent: Option<blocking::SyncSender<()>>,
}

/// The side of a connection that the scheduler sees.
struct Connection {
    id: u64,
    gone: AtomicBool,
    outgoing: mpsc::UnboundedSender<Outgoing>,
}

impl Caller for Connection {
    fn id(&self) -> u64 {
        self.id
    }

    fn gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn send(&self, frame: Vec<u8>, held: Option<Held>) {
        // Fails only when the client is gone, and then nobody misses the answer.
        let _ = self.outgoing.send(Outgoing {
            frame,
            held,
            sent: None,
        });
    }

    fn send_now(&self, frame: Vec<u8>) {
        let (sent, done) = blocking::sync_channel(1);
        if self
            .outgoing
            .send(Outgoing {
                frame,
                held: None,
                sent: Some(sent),
            })
            .is_ok()
        {
            // An error means that the writer, and with it the client, is gone.
            let _ = done.recv();
        }
    }
}

/// Serves one client until it leaves or breaks the protocol.
pub(super) async fn serve(stream: UnixStream, engine: Arc<Engine>) {
    engine.connections.fetch_add(1, Ordering::Relaxed);
    let (mut reader, writer) = stream.into_split();
    let (outgoing, frames) = mpsc::unbounded_channel();
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let connection = Arc::new(Connection {
        id,
        gone: AtomicBool::new(false),
        outgoing,
    });
    let writing = tokio::spawn(write_frames(writer, frames));

    // However it ends, the client has left or is told to: both close the connection.
    let _ = read_requests(&mut reader, &connection, &engine).await;
    connection.gone.store(true, Ordering::Relaxed);
    drop(connection);
    let _ = timeout(STALLED, writing).await;
    engine.connections.fetch_sub(1, Ordering::Relaxed);
}

async fn write_frames(mut writer: OwnedWriteHalf, mut frames: mpsc::UnboundedReceiver<Outgoing>) {
    while let Some(Outgoing { frame, held, sent }) = frames.recv().await {
        match timeout(STALLED, writer.write_all(&frame)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
        drop(held);
        if let Some(sent) = sent {
            let _ = sent.send(());
        }
    }
}

async fn read_requests(
    reader: &mut OwnedReadHalf,
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
        let credits = (header.length >> 10) as u32 + 1;
        let held = Arc::clone(&engine.credits)
            .acquire_many_owned(credits)
            .await
            .map_err(io::Error::other)?;
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
    fail(
        connection,
        0,
        &Error::BadRequest {
            reason: malformed.to_string(),
        },
    );
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
        Some(Error::Version {
            client: build.to_owned(),
        })
    } else {
        None
    };
    if let Some(error) = refused {
        fail(connection, 0, &error);
        return Err(io::ErrorKind::Unsupported.into());
    }
    let pid = std::process::id();
    reply(
        connection,
        &Reply::Welcome {
            version: PROTOCOL_VERSION,
            build: BUILD_ID,
            pid,
        },
    );
    Ok(())
}

fn accept(request: Request<'_>, connection: &Arc<Connection>, engine: &Arc<Engine>, held: Held) {
    let (id, question, model, texts) = match request {
        Request::Hello { .. } => {
            return fail(
                connection,
                0,
                &Error::BadRequest {
                    reason: "second greeting".into(),
                },
            );
        }
        Request::Stats { id } => {
            return reply(
                connection,
                &Reply::Stats {
                    id,
                    stats: Box::new(engine.stats()),
                },
            );
        }
        Request::Models { id } => return list_models(id, connection, engine),
        Request::Embed(embed) => {
            let question = Question::Embed {
                purpose: embed.purpose,
                overlong: embed.overlong,
                isolated: embed.isolated,
            };
            (embed.id, question, embed.model, embed.texts)
        }
        Request::TokenCount { id, model, texts } => (id, Question::TokenCount, model, texts),
    };
    if texts.is_empty() {
        return fail(
            connection,
            id,
            &Error::BadRequest {
                reason: "a request without texts".into(),
            },
        );
    }
    engine.scheduler.submit(Job {
        caller: Arc::clone(connection) as Arc<dyn Caller>,
        id,
        question,
        model: model.to_owned(),
        texts: texts.iter().map(Box::from).collect(),
        held,
    });
}

/// Reads directories and perhaps hashes models, so it goes to a thread of its own.
fn list_models(id: u32, connection: &Arc<Connection>, engine: &Arc<Engine>) {
    let (connection, engine) = (Arc::clone(connection), Arc::clone(engine));
    tokio::task::spawn_blocking(move || {
        let models = engine.scheduler.models().list();
        reply(&connection, &Reply::Models { id, models });
    });
}

/// The largest frame can be let in at all.
const _: () = assert!((MAX_FRAME_BYTES >> 10) + 1 < super::QUEUE_CREDITS);
