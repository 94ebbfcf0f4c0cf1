//! Programs that embed in other ways: Python, kept open, which take work as lines of JSON and say how long it took.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::error::Result;

/// A program of `benches/peers` that waits for work. It ends with this.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it says that it is.
    pub(crate) version: String,
}

/// What came of some work.
pub(crate) struct Done {
    /// Milliseconds that it took, by the program's own clock.
    pub(crate) time: f64,
    /// What the work returned.
    pub(crate) value: Value,
}

impl Peer {
    /// Starts `program` and waits until it is ready. `home` is its home folder, where it should not be the user's.
    pub(crate) fn start(
        python: &Path,
        program: &Path,
        arguments: &[&OsStr],
        home: Option<&Path>,
    ) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.envs(home.map(|home| ("HOME", home)));
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", python.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a program without pipes".into());
        };
        let mut peer = Self { child, input, output: BufReader::new(output), version: String::new() };
        let ready = peer.answer()?;
        peer.version = ready["ready"].as_str().ok_or("it did not say what it is")?.to_owned();
        Ok(peer)
    }

    /// Has it do the work `name` with these arguments.
    pub(crate) fn work(&mut self, name: &str, arguments: Value) -> Result<Done> {
        let request = serde_json::json!({"work": name, "arguments": arguments});
        writeln!(self.input, "{request}")?;
        self.input.flush()?;
        let mut answer = self.answer()?;
        let time = answer["milliseconds"].as_f64().ok_or("it did not say how long it took")?;
        Ok(Done { time, value: answer["value"].take() })
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("it ended; what it had to say is above".into());
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer["error"].as_str() {
            Some(error) => Err(error.into()),
            None => Ok(answer),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may be in the midst of work that nobody waits for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
