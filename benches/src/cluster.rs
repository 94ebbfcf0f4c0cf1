//! Servers of a measurement's own, which it starts and stops: `scripts/cluster`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::arguments::Arguments;
use crate::error::Result;
use crate::server::Server;

/// A throwaway cluster, gone when this is.
pub(crate) struct Cluster {
    program: PathBuf,
    folder: PathBuf,
    settings: Vec<String>,
}

impl Cluster {
    /// One of this name that will run with `settings`, each `name=value`.
    pub(crate) fn new(arguments: &Arguments, name: &str, settings: &[&str]) -> Self {
        let settings = settings.iter().map(ToString::to_string).collect();
        let folder = format!("{}-{name}", arguments.value("clusters")).into();
        Self { program: arguments.path("cluster"), folder, settings }
    }

    /// Starts it, and makes it first if it is not there. `like` says as whom to connect.
    pub(crate) fn start(&self, like: &Server) -> Result<Server> {
        Ok(like.at(self.run("start", &self.settings)?.trim()))
    }

    /// Stops it; its data stay.
    pub(crate) fn stop(&self) -> Result<()> {
        self.run("stop", &[]).map(drop)
    }

    fn run(&self, action: &str, arguments: &[String]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.arg(action).arg(&self.folder).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output()?;
        if !output.status.success() {
            return Err(format!("scripts/cluster {action} failed").into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.run("drop", &[]) {
            eprintln!("{error}");
        }
    }
}
