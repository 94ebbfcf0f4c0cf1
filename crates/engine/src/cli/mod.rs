//! The command line.

mod check;
mod places;

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::compute::{Decorate, Runtime, load};
use crate::error::Error;
use crate::model::{self, AddOptions, Added, Catalog, ModelSettings, Precision, model_hash};
use crate::schedule::Limits;
use crate::serve;
use clap::{Args, Parser, Subcommand};
use vector_embed_protocol::Purpose;

/// Computes text embeddings for PostgreSQL.
#[derive(Parser)]
#[command(name = "vector_embed_engine", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Add, list or check models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Embed the lines of standard input; prints one vector a line in pgvector's form
    Embed {
        /// Name of the model
        #[arg(long)]
        model: String,
        #[command(flatten)]
        places: Places,
    },
    /// Serve a PostgreSQL server; run by the extension's supervisor
    Serve {
        /// Directory for the socket
        #[arg(long)]
        directory: PathBuf,
        #[command(flatten)]
        places: Places,
        /// Threads that compute one batch
        #[arg(long)]
        threads: usize,
        /// Padded tokens of one batch
        #[arg(long)]
        batch_tokens: usize,
        /// Kilobytes of vectors kept for texts that come again
        #[arg(long, value_name = "KB", default_value_t = 32 << 10)]
        cache_size: usize,
        /// Kilobytes that models in memory may take; 0 for no limit
        #[arg(long, value_name = "KB", default_value_t = 0)]
        max_memory: u64,
        /// Seconds after which a model that nobody uses is unloaded; 0 for never
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        idle_timeout: u64,
        /// How often an engine was started before
        #[arg(long, default_value_t = 0)]
        restarts: u64,
    },
}

#[derive(Subcommand)]
enum ModelCommand {
    /// Install the model in a directory laid out as on the Hugging Face hub
    Add {
        /// The directory
        dir: PathBuf,
        /// Name of the model; by default the directory's
        #[arg(long)]
        name: Option<String>,
        /// Text in front of what embed() gets, written into the copy; "" for none
        #[arg(long, value_name = "PROMPT")]
        document_prompt: Option<String>,
        /// Text in front of what embed_query() gets, written into the copy; "" for none
        #[arg(long, value_name = "PROMPT")]
        query_prompt: Option<String>,
        /// What to compute in, written into the copy; by default what the directory says, which is fp32 mostly
        #[arg(long, value_enum)]
        precision: Option<Precision>,
        #[command(flatten)]
        places: Places,
    },
    /// List the installed models
    List {
        #[command(flatten)]
        places: Places,
    },
    /// Load a model, compute with it, and tell what it is or what it lacks
    Check {
        /// Name of the model
        name: String,
        #[command(flatten)]
        places: Places,
    },
}

/// Where things are; by default where `make install` puts them, found by the pg_config beside this program.
#[derive(Args)]
struct Places {
    /// Directories that hold models, separated by colons
    #[arg(long, value_name = "DIR[:DIR…]")]
    models: Option<String>,
    /// ONNX Runtime's shared library
    #[arg(long, value_name = "FILE")]
    runtime: Option<PathBuf>,
}

/// Runs the command line and reports a failure on standard error. `decorate` is put around the models that are
/// served.
pub fn run(decorate: Decorate) -> ExitCode {
    crate::process::keep_to_itself();
    match execute(Cli::parse().command, decorate) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("vector_embed_engine: {message}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command, decorate: Decorate) -> Result<(), String> {
    match command {
        Command::Serve {
            directory,
            places,
            threads,
            batch_tokens,
            cache_size,
            max_memory,
            idle_timeout,
            restarts,
        } => {
            let (models, runtime) = (places.models()?, places.runtime()?);
            let cache_bytes = cache_size.saturating_mul(1024);
            let limits = Limits {
                bytes: if max_memory == 0 { u64::MAX } else { max_memory.saturating_mul(1024) },
                idle: if idle_timeout == 0 { Duration::MAX } else { Duration::from_secs(idle_timeout) },
            };
            let options = serve::Options {
                directory,
                models,
                runtime,
                threads,
                batch_tokens,
                cache_bytes,
                limits,
                restarts,
            };
            serve::run(&options, decorate).map_err(|error| error.to_string())
        }
        Command::Embed { model, places } => embed(&model, &places),
        Command::Model(ModelCommand::Add { dir, name, document_prompt, query_prompt, precision, places }) => {
            add(&dir, name, &AddOptions { document_prompt, query_prompt, precision }, &places)
        }
        Command::Model(ModelCommand::List { places }) => list(&places),
        Command::Model(ModelCommand::Check { name, places }) => check::check(&name, &places),
    }
}

fn add(dir: &Path, name: Option<String>, options: &AddOptions, places: &Places) -> Result<(), String> {
    let of_directory =
        || dir.canonicalize().ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.or_else(of_directory).ok_or("the directory has no name; give one with --name")?;
    let roots = places.models()?;
    let root = roots.first().ok_or("--models names no directory")?;
    let added = model::add(dir, root, &name, options).map_err(|error| error.to_string())?;
    print(&match added {
        Added::New { hash } => format!("added model \"{name}\" with hash {hash}\n"),
        Added::Present { hash } => format!("model \"{name}\" with hash {hash} was there already\n"),
    })
}

fn list(places: &Places) -> Result<(), String> {
    for entry in Catalog::new(places.models()?).list() {
        let described = ModelSettings::read(&entry.dir).and_then(|settings| {
            let (hash, bytes) = model_hash(&entry.dir, &settings.files)?;
            Ok((settings, hash, bytes))
        });
        print(&match described {
            Ok((settings, hash, bytes)) => format!(
                "{}\t{} dimensions\t{} tokens\t{} MB\t{hash}\n",
                entry.name,
                settings.dimensions.map_or("?".to_owned(), |dimensions| dimensions.to_string()),
                settings.max_tokens,
                bytes / 1_000_000,
            ),
            Err(problem) => format!("{}\tunusable: {problem}\n", entry.name),
        })?;
    }
    Ok(())
}

fn embed(name: &str, places: &Places) -> Result<(), String> {
    let entry = Catalog::new(places.models()?).find(name).map_err(explain)?;
    let runtime = Runtime::new(places.runtime()?, places::threads());
    let model = load(&runtime, &entry, std::convert::identity).map_err(explain)?;
    let mut vector = Vec::new();
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("could not read standard input: {error}"))?;
        let tokens = model
            .tokenizer
            .tokenize(&line, Purpose::Document, model.tokenizer.limit(None))
            .map_err(explain)?;
        vector.clear();
        model.embed(std::iter::once(&*tokens.ids), &mut vector).map_err(explain)?;
        let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
        print(&format!("[{}]\n", numbers.join(",")))?;
    }
    Ok(())
}

fn print(text: &str) -> Result<(), String> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| format!("could not write: {error}"))
}

/// An error with its detail and hint, on lines of their own.
fn explain(error: Error) -> String {
    let failure = error.to_failure(0, None);
    let mut text = failure.message;
    for (label, more) in [("detail", failure.detail), ("hint", failure.hint)] {
        if !more.is_empty() {
            text.push_str(&format!("\n{label}: {more}"));
        }
    }
    text
}
