//! The substitute for a Qdrant server (`tests/qdrant/server.py`), and a local store of the real client.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::account::{give_to_server, new_directory};
use crate::repository;

fn script(what: &str) -> PathBuf {
    let output = Command::new(repository::root().join("scripts/qdrant")).arg(what).output();
    let output = output.expect("scripts/qdrant can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim_end())
}

/// A copy of the local store that the server's account owns.
pub fn store() -> PathBuf {
    let directory = new_directory("qdrant");
    let status = Command::new("cp").arg("-r").arg(script("store").join("store")).arg(&directory).status();
    assert!(status.expect("cp runs").success());
    let store = directory.join("store");
    give_to_server(&store);
    store
}

/// A server on a loopback port.
pub struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Its port.
    pub port: u16,
}

impl Server {
    /// Starts a server that asks for a key.
    pub fn start(key: &str) -> Self {
        let copy = new_directory("qdrant");
        let status = Command::new("cp").arg("-r").arg(script("store").join("store")).arg(&copy).status();
        assert!(status.expect("cp runs").success());
        let mut child = Command::new(script("python"))
            .arg(repository::root().join("tests/qdrant/server.py"))
            .arg(copy.join("store"))
            .arg(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it tells its port");
        let port = line.trim().parse().expect("a port");
        Self { child, input, output, port }
    }

    fn tell(&mut self, command: &Value) -> Value {
        let input = self.input.as_mut().expect("open until it is dropped");
        writeln!(input, "{command}").expect("it reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).expect("JSON")
    }

    /// The next requests go wrong; see `fail` in the program.
    pub fn faults(&mut self, faults: &[Value]) {
        self.tell(&json!({ "faults": faults }));
    }

    /// How many requests it has had.
    pub fn requests(&mut self) -> u64 {
        self.tell(&json!({}))["seen"].as_u64().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().ok(); // it ends with its input
    }
}
