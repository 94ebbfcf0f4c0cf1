//! The client of the embedding engine: one kept connection for each backend.
//!
//! A call sends its texts in chunks, waits on the process's latch, and survives crashes of the engine: requests that
//! were under way are sent again, marked so that the engine computes them apart from everybody else's. Only a text
//! that ends the engine then is an error.

mod connection;
mod request;

use std::cell::RefCell;

use vector_embed_protocol::{EngineStats, ModelInfo, Overlong, Purpose, Reply, Request};

use crate::error::{Error, Place};
use connection::{Connection, Start};
use request::{Ask, Exchange, Interrupted};

/// How many crashes of the engine a call survives that cannot be blamed on its texts. More than one, since an
/// engine that computes the texts of several callers in isolation may die of any of them.
const MAX_CRASHES: usize = 20;

thread_local! {
    static KEPT: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// How texts are embedded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EmbedOptions<'a> {
    /// The model's name, one that [`crate::pg::settings::Model::name`] has let through.
    pub(crate) model: &'a str,
    /// Which of its prompts to use.
    pub(crate) purpose: Purpose,
    /// What to do with texts over its limit.
    pub(crate) overlong: Overlong,
    /// The hash that it must have, as in `vector_embed.models`: a model of another hash is error 55000.
    pub(crate) expected_hash: Option<&'a str>,
}

/// Embeds `texts`; `sink` gets each vector, as little-endian `f32`, with the position of its text. Returns how many
/// texts were cut to the model's limit.
pub(crate) fn embed(
    options: &EmbedOptions<'_>,
    texts: &[impl AsRef<str>],
    sink: &mut dyn FnMut(usize, &[u8]),
) -> Result<usize, Error> {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let mut exchange = Exchange::new(Ask::Embed(*options), &texts)?;
    run(&mut exchange, sink)?;
    Ok(exchange.truncated())
}

/// Counts the tokens of `text`, special tokens and prompt included.
pub(crate) fn token_count(model: &str, text: &str) -> Result<u32, Error> {
    let texts = [text];
    let mut exchange = Exchange::new(Ask::TokenCount { model }, &texts)?;
    let mut count = 0;
    run(&mut exchange, &mut |_, bytes| {
        if let Ok(bytes) = bytes.try_into() {
            count = u32::from_le_bytes(bytes);
        }
    })
    .map_err(Error::without_place)?;
    Ok(count)
}

/// The installed models.
pub(crate) fn models() -> Result<Vec<ModelInfo>, Error> {
    let models = ask(Start::IfNeeded, &Request::Models { id: 1, name: None }, |reply| match reply {
        Reply::Models { models, .. } => Some(models),
        _ => None,
    })?;
    models.ok_or_else(gone)
}

/// What the engine knows of one model, whose name [`crate::pg::settings::Model::name`] has let through. The other
/// models are not looked at. One that does not exist or cannot be used is the error that [`embed`] raises for it.
/// `dimensions` is 0 where only loading the model tells.
pub(crate) fn model(name: &str) -> Result<ModelInfo, Error> {
    let model = ask(Start::IfNeeded, &Request::Models { id: 1, name: Some(name) }, |reply| match reply {
        Reply::Models { mut models, .. } => models.pop(),
        _ => None,
    })?;
    model.ok_or_else(gone)
}

/// The engine's counters, or `None` if no engine runs. Does not start one.
pub(crate) fn stats() -> Result<Option<EngineStats>, Error> {
    ask(Start::Never, &Request::Stats { id: 1 }, |reply| match reply {
        Reply::Stats { stats, .. } => Some(*stats),
        _ => None,
    })
}

/// Asks about the engine itself. An engine that ends meanwhile is not the question's fault, so its successor is
/// asked; `None` if there is none.
fn ask<T>(
    start: Start,
    request: &Request<'_>,
    expected: impl Fn(Reply<'_>) -> Option<T>,
) -> Result<Option<T>, Error> {
    for _ in 0..MAX_CRASHES {
        let Some(mut connection) = connect(start)? else {
            return Ok(None);
        };
        if let Some(answer) = connection.ask(request, &expected)? {
            keep(connection);
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

fn run(exchange: &mut Exchange<'_>, sink: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
    let mut crashes = 0;
    while crashes < MAX_CRASHES {
        let mut connection = connect(Start::IfNeeded)?.ok_or_else(gone)?;
        match exchange.run(&mut connection, sink) {
            Ok(()) => {
                keep(connection);
                return Ok(());
            }
            Err(Interrupted::Failed(error)) => return Err(error),
            Err(Interrupted::HandedOver) => exchange.send_again(false),
            Err(Interrupted::EngineLost { computing: Some(position) }) => {
                return Err(Error::Crashed { place: Some(Place::Element(position)) });
            }
            Err(Interrupted::EngineLost { computing: None }) => {
                exchange.send_again(true);
                crashes += 1;
            }
        }
    }
    Err(Error::Unavailable { detail: format!("The engine ended {MAX_CRASHES} times during the call.") })
}

/// The kept connection if it is still good, otherwise a new one. An error in mid-call, such as a cancel, drops
/// the connection it used, which tells the engine to drop the work.
fn connect(start: Start) -> Result<Option<Connection>, Error> {
    match KEPT.take() {
        Some(kept) if kept.is_idle() => Ok(Some(kept)),
        _ => Connection::open(start),
    }
}

fn keep(mut connection: Connection) {
    connection.shrink();
    KEPT.set(Some(connection));
}

fn gone() -> Error {
    Error::Unavailable { detail: "The engine ended.".to_owned() }
}
