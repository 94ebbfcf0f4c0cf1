//! `vector_embed_engine`: the process that the supervisor runs, and the DBA's tool for models.

use std::process::ExitCode;

fn main() -> ExitCode {
    vector_embed_engine::cli::run(std::convert::identity)
}
