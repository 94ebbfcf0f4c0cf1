//! The engine as a server: clients that misbehave hurt nobody else.
//!
//! Each test has an engine of its own, of few descriptors where that matters, and clients that say what they like.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use vector_embed_protocol::{
    BUILD_ID, EmbedRequest, FRAME_HEADER_BYTES, FrameHeader, MAX_FRAME_BYTES, Overlong, PROTOCOL_VERSION,
    Purpose, Reply, Request, Texts, append_embed, append_token_count,
};

use crate::support::{golden, place};

const MODEL: &str = "tiny-bert";
/// Longer than anything takes that is not held up by others for good.
const PATIENCE: Duration = Duration::from_secs(40);

/// A running engine over the fixture models.
struct Engine {
    child: Child,
    directory: TempDir,
}

impl Engine {
    fn start(descriptors: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_vector_embed_engine"))
            .args(["serve", "--threads", "1", "--batch-tokens", "512", "--cache-size", "0", "--directory"])
            .arg(directory.path())
            .arg("--models")
            .arg(golden().join("models"))
            .arg("--runtime")
            .arg(place("VECTOR_EMBED_TEST_RUNTIME"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let engine = Self { child, directory };
        let begin = Instant::now();
        while UnixStream::connect(engine.directory.path().join("engine.sock")).is_err() {
            assert!(begin.elapsed() < PATIENCE, "the engine listens");
            std::thread::sleep(Duration::from_millis(10));
        }
        engine
    }

    fn connect(&self) -> Client {
        let socket = UnixStream::connect(self.directory.path().join("engine.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(socket)
    }

    fn greeted(&self) -> Client {
        let mut client = self.connect();
        client.ask(&Request::Hello { version: PROTOCOL_VERSION, build: BUILD_ID });
        let (kind, payload) = client.frame().expect("a welcome");
        assert!(matches!(Reply::decode(kind, &payload), Ok(Reply::Welcome { .. })));
        client
    }

    /// Fails unless a new client gets its vectors, also for a text that takes a part of the budget.
    fn serves(&self) {
        let mut client = self.greeted();
        for text in ["a cat", &"a cat and a dog ".repeat(4000)] {
            client.embed(1, text);
            let (kind, payload) = client.frame().expect("an answer");
            match Reply::decode(kind, &payload) {
                Ok(Reply::Vectors(vectors)) => assert_eq!(vectors.iter().len(), 1),
                other => panic!("another answer than vectors: {other:?}"),
            }
        }
    }

    fn resident_megabytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

struct Client(UnixStream);

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn ask(&mut self, request: &Request<'_>) {
        let mut frame = Vec::new();
        request.append(&mut frame);
        self.send(&frame);
    }

    fn embed(&mut self, id: u32, text: &str) {
        self.send(&embed_frame(id, text));
    }

    /// The next frame; `None` if the engine has closed the connection.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; FRAME_HEADER_BYTES];
        match self.0.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(error) => panic!("the engine neither answers nor leaves: {error}"),
        }
        let header = FrameHeader::parse(head).unwrap();
        let mut payload = vec![0; header.length];
        self.0.read_exact(&mut payload).unwrap();
        Some((header.kind, payload))
    }
}

fn embed_frame(id: u32, text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    let request = EmbedRequest {
        id,
        isolated: false,
        beginning: false,
        purpose: Purpose::Document,
        overlong: Overlong::Truncate,
        max_tokens: None,
        model: MODEL,
        expected_hash: None,
        texts: Texts::default(),
    };
    append_embed(&mut frame, &request, &[text]);
    frame
}

#[test]
fn half_frames_that_take_the_whole_budget_are_given_up_when_others_need_it() {
    let engine = Engine::start(1024);
    let mut half: Vec<Client> = (0..6).map(|_| engine.greeted()).collect();
    for client in &mut half {
        client.send(&(MAX_FRAME_BYTES as u32).to_le_bytes());
        client.send(&[2, 1, 2, 3]);
    }
    engine.serves();
    assert!(half.iter_mut().any(|client| client.frame().is_none()), "who was in the way is gone");
    engine.serves();
}

#[test]
fn half_a_frame_stays_as_long_as_nobody_needs_its_place() {
    let engine = Engine::start(1024);
    let mut slow = engine.greeted();
    let frame = embed_frame(7, &"a cat ".repeat(4000));
    slow.send(&frame[..1000]);
    engine.serves();
    std::thread::sleep(Duration::from_secs(2));
    slow.send(&frame[1000..]);
    assert!(slow.frame().is_some(), "an answer");
}

#[test]
fn connections_beyond_the_descriptors_take_the_place_of_those_that_are_silent() {
    let engine = Engine::start(100);
    let working = engine.greeted();
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut client = engine.connect();
        if number % 2 == 0 {
            client.send(&[200, 0, 0]);
        }
        silent.push(client);
    }
    for _ in 0..3 {
        engine.serves();
    }
    drop((silent, working));
    engine.serves();
}

#[test]
fn a_thousand_connections_are_served_beside_each_other() {
    // This side of them needs descriptors, too.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let engine = Engine::start(4096);
    let mut clients: Vec<Client> = (0..1000).map(|_| engine.greeted()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.embed(number as u32, "a cat");
    }
    for client in &mut clients {
        let (kind, payload) = client.frame().expect("an answer");
        assert!(matches!(Reply::decode(kind, &payload), Ok(Reply::Vectors(_))));
    }
    engine.serves();
}

#[test]
fn who_never_reads_answers_is_not_listened_to_for_ever() {
    let engine = Engine::start(1024);
    engine.serves();
    let before = engine.resident_megabytes();
    let mut deaf: Vec<Client> = (0..4).map(|_| engine.greeted()).collect();
    for client in &mut deaf {
        client.0.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut frames = Vec::new();
        for id in 0..1000 {
            Request::Models { id, name: None }.append(&mut frames);
            append_token_count(&mut frames, id, MODEL, &["a cat"; 400]);
            frames.extend(embed_frame(id, "a cat"));
        }
        // Only as much is taken as is answered, and as sockets hold.
        let mut sent = 0;
        while sent < 64 << 20 {
            match client.0.write(&frames) {
                Ok(count) => sent += count,
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                    break;
                }
            }
        }
        assert!(sent < 64 << 20, "the engine stops reading");
    }
    engine.serves();
    let after = engine.resident_megabytes();
    assert!(after < before + 64, "{before} MB before, {after} MB after");
}

#[test]
fn a_greeting_is_short() {
    let engine = Engine::start(1024);
    let mut client = engine.connect();
    client.send(&[0, 0, 0, 4, 1]);
    let (kind, payload) = client.frame().expect("a failure");
    assert!(matches!(Reply::decode(kind, &payload), Ok(Reply::Failure(_))));
    assert!(client.frame().is_none());
}

#[test]
fn who_does_not_greet_has_to_leave() {
    let engine = Engine::start(1024);
    let (mut silent, mut half) = (engine.connect(), engine.connect());
    half.send(&[30, 0, 0, 0, 1, 1, 2]);
    assert!(silent.frame().is_none() && half.frame().is_none());
    engine.serves();
}
