//! The substitute for a Qdrant server (`tests/qdrant/server.py`), and a local store of the real client.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::account::{give_to_server, new_directory};
use crate::repository;
use process::Process;

#[path = "../../qdrant/server.rs"]
mod process;

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
    process: Process,
    /// Its port.
    pub port: u16,
}

impl Server {
    /// Starts a server that asks for a key.
    pub fn start(key: &str) -> Self {
        let copy = new_directory("qdrant");
        let status = Command::new("cp").arg("-r").arg(script("store").join("store")).arg(&copy).status();
        assert!(status.expect("cp runs").success());
        let mut command = Command::new(script("python"));
        command.arg(repository::root().join("tests/qdrant/server.py")).arg(copy.join("store")).arg(key);
        let process = Process::start(&mut command);
        let port = process.port;
        Self { process, port }
    }

    /// The next requests go wrong; see `fail` in the program.
    pub fn faults(&mut self, faults: &[Value]) {
        self.process.tell(&json!({ "faults": faults }));
    }

    /// How many requests it has had.
    pub fn requests(&mut self) -> u64 {
        self.process.tell(&json!({}))["seen"].as_u64().expect("a number")
    }
}
