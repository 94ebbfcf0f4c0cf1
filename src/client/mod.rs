//! The client of the embedding engine: one kept connection for each backend.
//!
//! A call sends its texts in parts, waits on the process's latch, and survives crashes of the engine: requests that
//! were under way are sent again, marked so that the engine computes them apart from everybody else's. Only a text
//! that ends the engine then is an error.

mod connection;
mod request;
pub(crate) mod vectors;

use std::cell::{Cell, RefCell};

use vector_embed_protocol::{
    Chunk, ChunkRule, Effort, EngineStats, ModelInfo, ModelStats, Overlong, Purpose, Reply, Request,
};

use crate::error::{Error, Place};
use connection::{Connection, Start};
use request::{Ask, Exchange, Interrupted};

/// How many crashes of the engine a call survives that cannot be blamed on its texts. More than one, since an
/// engine that computes the texts of several callers in isolation may die of any of them.
const MAX_CRASHES: usize = 20;

/// How many connections are kept between calls: texts may be under way on one while another call is made.
const KEPT_CONNECTIONS: usize = 2;

/// How many flights may be under way at once for callers who would not wait for them yet: each has a connection, and
/// the nodes of one plan may be as many as a table has partitions.
const MAX_FLIGHTS: usize = 8;

thread_local! {
    static KEPT: RefCell<Vec<Connection>> = const { RefCell::new(Vec::new()) };
    static FLIGHTS: Cell<usize> = const { Cell::new(0) };
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
    /// Another limit than the model's own, in tokens; see [`vector_embed_protocol::EmbedRequest::max_tokens`].
    pub(crate) max_tokens: Option<u32>,
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
    let mut exchange = Exchange::new(Ask::from(options), texts)?;
    run(&mut exchange, None, sink)?;
    Ok(exchange.effort().truncated as usize)
}

/// Texts that are at the engine while their caller does something else. Dropped, they are withdrawn.
pub(crate) struct Flight<T> {
    exchange: Exchange<T>,
    connection: Connection,
    _counted: Counted,
}

/// Counts flights.
struct Counted;

impl Counted {
    fn new() -> Self {
        FLIGHTS.set(FLIGHTS.get() + 1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        FLIGHTS.set(FLIGHTS.get() - 1);
    }
}

/// Whether another flight may be started before its vectors are needed.
pub(crate) fn may_go_ahead() -> bool {
    FLIGHTS.get() < MAX_FLIGHTS
}

impl<T: AsRef<str>> Flight<T> {
    /// Sends texts on their way, or at least as many as the socket takes without waiting.
    pub(crate) fn start(options: &EmbedOptions<'_>, texts: Vec<T>) -> Result<Self, Error> {
        let mut exchange = Exchange::new(Ask::from(options), texts)?;
        let mut connection = connect(Start::IfNeeded)?.ok_or_else(gone)?;
        exchange.send_more(&mut connection);
        connection.pump();
        Ok(Self { exchange, connection, _counted: Counted::new() })
    }

    /// Sends and receives what can be without waiting, so that the engine is not left with answers that nobody takes.
    pub(crate) fn keep_going(&mut self) {
        self.connection.pump();
    }

    /// Waits for the vectors, as [`embed`] does. Returns what they took.
    pub(crate) fn land(self, sink: &mut dyn FnMut(usize, &[u8])) -> Result<Effort, Error> {
        let Self { mut exchange, connection, .. } = self;
        run(&mut exchange, Some(connection), sink)?;
        Ok(exchange.effort())
    }
}

/// Counts the tokens of `text`, special tokens and prompt included.
pub(crate) fn token_count(model: &str, text: &str) -> Result<u32, Error> {
    let ask = Ask::TokenCount { model: model.to_owned() };
    let mut exchange = Exchange::new(ask, vec![text]).map_err(Error::without_place)?;
    let mut count = 0;
    run(&mut exchange, None, &mut |_, bytes| {
        if let Ok(bytes) = bytes.try_into() {
            count = u32::from_le_bytes(bytes);
        }
    })
    .map_err(Error::without_place)?;
    Ok(count)
}

/// Cuts `texts` into chunks that the model takes; gives those of each text, which are in order and within it.
pub(crate) fn chunk(
    model: &str,
    rule: ChunkRule,
    texts: &[impl AsRef<str>],
) -> Result<Vec<Vec<Chunk>>, Error> {
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    let mut exchange = Exchange::new(Ask::Chunk { model: model.to_owned(), rule }, texts)?;
    run(&mut exchange, None, &mut |_, _| {})?;
    exchange.into_chunks()
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

/// Starts the supervisor if there is none, for whom it is to start something else than an engine.
pub(crate) fn ensure_supervisor() -> Result<(), Error> {
    connection::ensure_supervisor()
}

/// The engine's counters, or `None` if no engine runs. Does not start one.
pub(crate) fn stats() -> Result<Option<EngineStats>, Error> {
    ask(Start::Never, &Request::Stats { id: 1 }, |reply| match reply {
        Reply::Stats { stats, .. } => Some(*stats),
        _ => None,
    })
}

/// The counters of models, none if no engine runs. Does not start one.
pub(crate) fn model_stats() -> Result<Vec<ModelStats>, Error> {
    let models = ask(Start::Never, &Request::ModelStats { id: 1 }, |reply| match reply {
        Reply::ModelStats { models, .. } => Some(models),
        _ => None,
    })?;
    Ok(models.unwrap_or_default())
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

/// Has an exchange run to its end, begun on `connection` if there is one.
fn run(
    exchange: &mut Exchange<impl AsRef<str>>,
    mut begun: Option<Connection>,
    sink: &mut dyn FnMut(usize, &[u8]),
) -> Result<(), Error> {
    let mut crashes = 0;
    while crashes < MAX_CRASHES {
        let was_begun = begun.is_some();
        let mut connection = match begun.take() {
            Some(connection) => connection,
            None => connect(Start::IfNeeded)?.ok_or_else(gone)?,
        };
        match exchange.run(&mut connection, sink) {
            Ok(()) => {
                keep(connection);
                return Ok(());
            }
            Err(Interrupted::Failed(error)) => return Err(error),
            Err(Interrupted::HandedOver) => exchange.send_again(false),
            // A connection that was left alone for long has been given up; if it was a crash, it will come again.
            Err(Interrupted::EngineLost { computing: None }) if was_begun => exchange.send_again(false),
            Err(Interrupted::EngineLost { computing: Some(position) }) => {
                return Err(Error::Crashed.at(Place::Element(position)));
            }
            Err(Interrupted::EngineLost { computing: None }) => {
                exchange.send_again(true);
                crashes += 1;
            }
        }
    }
    Err(Error::Unavailable { detail: format!("The engine ended {MAX_CRASHES} times during the call.") })
}

/// A kept connection if one is still good, otherwise a new one. An error in mid-call, such as a cancel, drops
/// the connection it used, which tells the engine to drop the work.
fn connect(start: Start) -> Result<Option<Connection>, Error> {
    while let Some(kept) = KEPT.with_borrow_mut(Vec::pop) {
        if kept.is_idle() {
            return Ok(Some(kept));
        }
    }
    Connection::open(start)
}

fn keep(mut connection: Connection) {
    KEPT.with_borrow_mut(|kept| {
        if kept.len() < KEPT_CONNECTIONS {
            connection.shrink();
            kept.push(connection);
        }
    });
}

fn gone() -> Error {
    Error::Unavailable { detail: "The engine ended.".to_owned() }
}
