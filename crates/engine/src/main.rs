//! `vector_embed_engine`: the process that the supervisor runs, and the DBA's tool for models.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
