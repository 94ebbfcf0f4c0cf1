//! The substitute for a Qdrant server as a child process. Both crates whose tests talk to it include this file.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value as Json;

/// A running server on a loopback port.
pub(super) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Its port.
    pub(super) port: u16,
}

impl Process {
    /// Starts `server.py`, with all its arguments.
    pub(super) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server starts");
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it tells its port");
        let port = line.trim().parse().expect("a port");
        Self { child, input, output, port }
    }

    /// Tells it what to do, see the program, and gives its answer.
    pub(super) fn tell(&mut self, command: &Json) -> Json {
        let input = self.input.as_mut().expect("open until it is dropped");
        writeln!(input, "{command}").expect("it reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().ok(); // it ends with its input
    }
}
