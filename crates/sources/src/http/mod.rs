//! A client of HTTP servers for processes that must not block: every wait is the host's, so that a backend serves
//! its interrupts meanwhile. Redirects are not followed, and what authenticates goes to the one server that it is for.

mod address;
mod connection;
mod message;

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

pub use address::Address;
pub(crate) use address::segment;

use crate::error::Error;
use crate::host::Host;
use connection::Connection;
use message::Answer;

/// Tries of a request that the server did not get or could not answer for now.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// How requests are sent.
#[derive(Clone)]
pub struct Options {
    /// Where the server is.
    pub address: Address,
    /// What authenticates: headers by their names. Never told in a message.
    pub credentials: Vec<(String, String)>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Bytes as header `Authorization` has them.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Why a request has no answer. Tells nothing of what authenticates.
#[derive(Debug)]
enum Fault {
    Interrupted,
    /// Another try may succeed.
    Passing(String),
    Final(String),
}

impl Fault {
    fn io(doing: &str, error: &std::io::Error) -> Self {
        Self::Passing(format!("{doing} failed: {error}"))
    }
}

/// A client of one server.
pub struct Client {
    options: Options,
    host: Host,
    connection: Option<Connection>,
}

impl Client {
    /// A client that connects when it is first used.
    pub fn new(options: Options, host: Host) -> Self {
        Self { options, host, connection: None }
    }

    /// Asks for JSON.
    pub fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Error> {
        self.json("GET", path, None)
    }

    /// Sends JSON and asks for JSON. Only for requests that read: they may be sent more than once.
    pub fn post<T: DeserializeOwned>(&mut self, path: &str, body: &serde_json::Value) -> Result<T, Error> {
        self.json("POST", path, Some(body.to_string()))
    }

    fn json<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<T, Error> {
        let answer = self.request(method, path, body.as_deref())?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            self.failed(format!("The answer to {method} {path} is not what was expected: {error}."))
        })
    }

    fn request(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<Answer, Error> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let detail = match self.attempt(method, path, body) {
                Ok(answer) => match answer.status {
                    200..=299 => return Ok(answer),
                    429 | 500..=599 if attempt < TRIES => answer.told(),
                    _ => return Err(self.refused(method, path, &answer)),
                },
                Err(Fault::Interrupted) => return Err(Error::Interrupted),
                Err(Fault::Final(detail)) => return Err(self.failed(detail)),
                Err(Fault::Passing(detail)) => detail,
            };
            self.connection = None;
            if attempt >= TRIES {
                return Err(self.failed(format!("{detail}, the last of {TRIES} times.")));
            }
            self.rest(pause)?;
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    fn attempt(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<Answer, Fault> {
        let deadline = Instant::now() + self.options.timeout;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.options.address, &self.host, deadline)?,
        };
        let request = message::request(&self.options, method, path, body);
        connection.send(request.as_bytes(), &self.host, deadline)?;
        let answer = message::read(&mut connection, &self.host, deadline, MAX_ANSWER_BYTES)?;
        if answer.keeps_open {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn rest(&self, pause: Duration) -> Result<(), Error> {
        let end = Instant::now() + pause;
        loop {
            if (self.host.interrupted)() {
                return Err(Error::Interrupted);
            }
            match end.checked_duration_since(Instant::now()) {
                None => return Ok(()),
                Some(left) => (self.host.wait)(None, left),
            }
        }
    }

    fn failed(&self, detail: String) -> Error {
        Error::Server { address: self.options.address.to_string(), detail }
    }

    fn refused(&self, method: &str, path: &str, answer: &Answer) -> Error {
        let (address, status) = (self.options.address.to_string(), answer.status);
        let detail = format!("To {method} {path}, it said: {}.", answer.told());
        Error::Refused { address, status, detail }
    }
}
