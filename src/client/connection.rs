//! A connection to the engine, and finding or starting one.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use vector_embed_protocol::{
    BUILD_ID, FRAME_HEADER_BYTES, FailureCode, FrameHeader, PROTOCOL_VERSION, Reply, Request,
};

use crate::error::Error;
use crate::pg::background;
use crate::pg::descriptor::ReservedDescriptor;
use crate::pg::latch::{self, Direction};
use crate::pg::runtime_dir::{self, Lock};

/// How long a caller waits for an engine to come up before it gets an error.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it looks meanwhile.
const POLL: Duration = Duration::from_millis(5);
/// How often it makes sure that there is a supervisor.
const SUPERVISOR_CHECK: Duration = Duration::from_millis(250);
/// Buffers are kept in this size between calls.
const BUFFER_BYTES: usize = 32 << 10;
/// Most that is read at once: about what a socket holds.
const READ_BYTES: usize = 256 << 10;

/// Whether an engine is started where none runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    IfNeeded,
    Never,
}

/// A connection whose handshake is done.
pub(super) struct Connection {
    stream: UnixStream,
    /// Received bytes; those before `read` have been used.
    inbox: Vec<u8>,
    read: usize,
    /// Bytes to send; those before `written` have been.
    outbox: Vec<u8>,
    written: usize,
    _descriptor: ReservedDescriptor,
}

impl Connection {
    /// Connects, with [`Start::IfNeeded`] after starting an engine. `None` if there is none to connect to.
    pub(super) fn open(start: Start) -> Result<Option<Self>, Error> {
        let begin = Instant::now();
        let begin_of_wait = SystemTime::now();
        let mut checked: Option<Instant> = None;
        loop {
            if let Some(stream) = try_connect()? {
                let mut connection = Self::new(stream);
                if connection.greet()? {
                    return Ok(Some(connection));
                }
            }
            if start == Start::Never {
                return Ok(None);
            }
            if let Some(reason) = runtime_dir::failure_since(begin_of_wait) {
                return Err(Error::Unavailable { detail: reason });
            }
            if begin.elapsed() > PATIENCE {
                let seconds = PATIENCE.as_secs();
                return Err(Error::Unavailable {
                    detail: format!("No engine came up within {seconds} seconds."),
                });
            }
            if checked.is_none_or(|checked| checked.elapsed() > SUPERVISOR_CHECK) {
                ensure_supervisor()?;
                checked = Some(Instant::now());
            }
            latch::sleep_for_engine(POLL);
        }
    }

    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            inbox: Vec::new(),
            read: 0,
            outbox: Vec::new(),
            written: 0,
            _descriptor: ReservedDescriptor::new(),
        }
    }

    /// The handshake; false if the engine is going away and another will come.
    fn greet(&mut self) -> Result<bool, Error> {
        self.queue(|out| Request::Hello { version: PROTOCOL_VERSION, build: BUILD_ID }.append(out));
        match self.receive() {
            Err(Lost::Malformed(problem)) => Err(Error::Protocol(problem)),
            Err(Lost::Closed) => Ok(false),
            Ok(Reply::Welcome { .. }) => Ok(true),
            Ok(Reply::Failure(failure)) if failure.code == FailureCode::Retiring => Ok(false),
            Ok(Reply::Failure(failure)) => Err(Error::Engine(failure)),
            Ok(_) => Err(Error::Protocol("the handshake was not answered".to_owned())),
        }
    }

    /// Sends one request and takes what `expected` finds in its answer; `None` if the engine ended.
    pub(super) fn ask<T>(
        &mut self,
        request: &Request<'_>,
        expected: impl FnOnce(Reply<'_>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.queue(|out| request.append(out));
        match self.receive() {
            Ok(Reply::Failure(failure)) if failure.code == FailureCode::Retiring => Ok(None),
            Ok(Reply::Failure(failure)) => Err(Error::Engine(failure)),
            Ok(reply) => match expected(reply) {
                Some(answer) => Ok(Some(answer)),
                None => Err(Error::Protocol("another answer than expected".to_owned())),
            },
            Err(Lost::Closed) => Ok(None),
            Err(Lost::Malformed(problem)) => Err(Error::Protocol(problem)),
        }
    }

    /// Whether nothing has arrived, not even the end, since the last call.
    pub(super) fn is_idle(&self) -> bool {
        let mut byte = [0];
        let peeked = rustix::net::recv(&self.stream, &mut byte, rustix::net::RecvFlags::PEEK);
        matches!(peeked, Err(rustix::io::Errno::WOULDBLOCK)) && self.inbox.len() == self.read
    }

    /// Lets frames be appended to what is to be sent.
    pub(super) fn queue(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.outbox);
    }

    /// Sends as much of what is queued as the socket takes now, and receives what is there. What is wrong shows with
    /// the next reply.
    pub(super) fn pump(&mut self) {
        let _ = self.send_some();
        let _ = self.read_some();
    }

    /// Sends what is queued and waits for the next reply. The wait serves interrupts.
    pub(super) fn receive(&mut self) -> Result<Reply<'_>, Lost> {
        let header = loop {
            let sent = self.send_some()?;
            if let Some(header) = self.complete_frame()? {
                break header;
            }
            if self.read_some()? {
                continue;
            }
            let direction = if sent { Direction::Readable } else { Direction::ReadableOrWritable };
            latch::wait_for_engine(self.stream.as_fd(), direction);
        };
        let start = self.read + FRAME_HEADER_BYTES;
        self.read = start + header.length;
        Reply::decode(header.kind, &self.inbox[start..self.read])
            .map_err(|malformed| Lost::Malformed(malformed.to_string()))
    }

    /// Gives back the memory that a large call needed.
    pub(super) fn shrink(&mut self) {
        self.inbox.clear();
        self.read = 0;
        self.inbox.shrink_to(BUFFER_BYTES);
        self.outbox.shrink_to(BUFFER_BYTES);
    }

    /// Writes as much as the socket takes; true if nothing is left.
    fn send_some(&mut self) -> Result<bool, Lost> {
        while self.written < self.outbox.len() {
            match self.stream.write(&self.outbox[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Lost::Closed),
            }
        }
        self.outbox.clear();
        self.written = 0;
        Ok(true)
    }

    /// The header of the frame at the front of the inbox, if all of it is there.
    fn complete_frame(&mut self) -> Result<Option<FrameHeader>, Lost> {
        if self.read == self.inbox.len() {
            self.inbox.clear();
            self.read = 0;
        }
        let waiting = &self.inbox[self.read..];
        let Some((head, payload)) = waiting.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = FrameHeader::parse(*head).map_err(|malformed| Lost::Malformed(malformed.to_string()))?;
        if payload.len() >= header.length {
            return Ok(Some(header));
        }
        let missing = header.length - payload.len();
        self.inbox.drain(..self.read);
        self.read = 0;
        self.inbox.reserve(missing);
        Ok(None)
    }

    /// Reads what has arrived; false if nothing has.
    fn read_some(&mut self) -> Result<bool, Lost> {
        let filled = self.inbox.len();
        let room = (self.inbox.capacity() - filled).clamp(BUFFER_BYTES, READ_BYTES);
        self.inbox.resize(filled + room, 0);
        let result = self.stream.read(&mut self.inbox[filled..]);
        self.inbox.truncate(filled + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Err(Lost::Closed),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(_) => Err(Lost::Closed),
        }
    }
}

/// Why no reply came.
#[derive(Debug)]
pub(super) enum Lost {
    /// The engine closed the connection, most likely because it ended.
    Closed,
    /// It sent what cannot be understood.
    Malformed(String),
}

/// Connects without blocking; `None` if nobody listens, or if so many wait that one has to come again.
fn try_connect() -> Result<Option<UnixStream>, Error> {
    let path = runtime_dir::SOCKET;
    let open = || -> rustix::io::Result<UnixStream> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(UnixStream::from(socket))
    };
    use rustix::io::Errno;
    match open() {
        Ok(stream) => Ok(Some(stream)),
        Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) => Ok(None),
        Err(error) => Err(Error::RuntimeDirectory { path: path.to_owned(), error: error.into() }),
    }
}

/// Starts a supervisor if there is none. One backend at a time tries; the others wait for the socket.
pub(super) fn ensure_supervisor() -> Result<(), Error> {
    let Some(_starting) = Lock::Starting.try_take()? else {
        return Ok(());
    };
    let missing = Lock::Supervisor.try_take()?.is_some();
    if missing {
        background::start_supervisor()?;
        // The lock of this backend is kept until the supervisor has its own, or another would be started.
        let begin = Instant::now();
        while Lock::Supervisor.try_take()?.is_some() && begin.elapsed() < Duration::from_secs(1) {
            latch::sleep_for_engine(POLL);
        }
    }
    Ok(())
}
