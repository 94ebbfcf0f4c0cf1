//! A client of the engine that is not a backend: it says what a test wants it to say.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vector_embed_protocol::{
    FRAME_HEADER_BYTES, FailureReply, FrameHeader, PROTOCOL_VERSION, Reply, Request,
};

use crate::cluster::Cluster;

/// A connection to a cluster's engine.
pub struct Wire(UnixStream);

/// The engine's answer to a greeting.
#[derive(Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Welcome, from an engine of this build.
    Welcome(String),
    /// It refused, and closed the connection.
    Refused(FailureReply),
}

impl Wire {
    /// Connects; nothing is said yet.
    pub fn connect(cluster: &Cluster) -> Self {
        let socket = cluster.runtime_directory().join("engine.sock");
        let stream = UnixStream::connect(socket).expect("the engine listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        Self(stream)
    }

    /// Waits for answers as long as a busy engine may take.
    pub fn be_patient(&mut self) {
        self.0.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout can be set");
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the engine takes what is sent");
    }

    /// Sends a request.
    pub fn ask(&mut self, request: &Request<'_>) {
        let mut frame = Vec::new();
        request.append(&mut frame);
        self.send(&frame);
    }

    /// Reads one frame; `None` if the engine has closed the connection.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; FRAME_HEADER_BYTES];
        let mut filled = 0;
        while filled < head.len() {
            match self.0.read(&mut head[filled..]) {
                Ok(0) if filled == 0 => return None,
                Ok(0) => panic!("the engine sent half a frame"),
                Ok(count) => filled += count,
                // What was not read when it closed the connection makes the system reset it.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the engine does not answer: {error}"),
            }
        }
        let header = FrameHeader::parse(head).expect("a header within the limits");
        let mut payload = vec![0; header.length];
        self.0.read_exact(&mut payload).expect("a whole frame");
        Some((header.kind, payload))
    }

    /// Greets as a client of this build and protocol version.
    pub fn greet_as(&mut self, version: u16, build: &str) -> Greeting {
        self.ask(&Request::Hello { version, build });
        let (kind, payload) = self.frame().expect("an answer to the greeting");
        match Reply::decode(kind, &payload).expect("an answer that can be read") {
            Reply::Welcome { build, .. } => Greeting::Welcome(build.to_owned()),
            Reply::Failure(failure) => {
                assert!(self.is_closed(), "a refused client is not served");
                Greeting::Refused(failure)
            }
            other => panic!("another answer than to a greeting: {other:?}"),
        }
    }

    /// Greets as a client of this build.
    pub fn greet(&mut self, build: &str) -> Greeting {
        self.greet_as(PROTOCOL_VERSION, build)
    }

    /// Whether the engine has nothing more to say and has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        self.frame().is_none()
    }
}
