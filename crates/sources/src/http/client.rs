//! Requests, and when they are repeated.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_native_certs::load_native_certs;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use ureq::config::AutoHeaderValue;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{HeaderName, HeaderValue, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{Connector, RustlsConnector};
use ureq::{Agent, Body, RequestBuilder, Timeout};

use super::Options;
use super::socket::{Interrupted, Names, Process, Sockets};
use crate::error::Error;
use crate::host::Host;

const MAX_HEAD_BYTES: usize = 64 << 10;
/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 256 << 20;
/// How much is read of what a server says that refuses; more than any header that authenticates, since of one that is
/// cut off nobody could tell what it is.
const MAX_REFUSAL_BYTES: u64 = 256 << 10;
const MAX_REFUSAL_CHARS: usize = 200;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// No pause is longer, whatever a server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A client of one server, with the connection to it that is kept.
pub struct Client {
    options: Options,
    headers: Vec<(HeaderName, HeaderValue)>,
    process: Process,
    agent: Agent,
}

/// A failed attempt.
struct Failure {
    error: Error,
    /// Whether another one may succeed.
    passing: bool,
    /// How long the server asks to wait until then.
    after: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, passing: false, after: None }
    }
}

impl Client {
    /// A client that connects when it is first used.
    pub fn new(options: Options, host: &Host) -> Result<Self, Error> {
        let exposed = !options.credentials.is_empty() && !options.address.is_secure() && !options.allow_plain;
        if exposed && !options.address.is_loopback() {
            return Err(Error::PlainCredentials { address: options.address.to_string() });
        }
        let process = Process { interrupted: host.interrupted, wait: host.wait };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("vector_embed/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .accept_encoding(AutoHeaderValue::None)
            .max_response_header_size(MAX_HEAD_BYTES)
            .timeout_connect(Some(options.connect_timeout))
            .timeout_global(Some(options.timeout));
        let config = if options.address.is_secure() { config.tls_config(tls(&options)?) } else { config };
        let connector = Sockets { process }.chain(RustlsConnector::default());
        let agent = Agent::with_parts(config.build(), connector, Names { loopback_only: exposed });
        let headers = headers(&options)?;
        Ok(Self { options, headers, process, agent })
    }

    /// Asks for JSON. The path begins with a slash; names in it are [`segment`](super::segment)s.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let address = format!("{}{path}", self.options.address);
        let body = self.repeat(|| self.authenticated(self.agent.get(&address)).call())?;
        self.read(&body)
    }

    /// Sends JSON and asks for JSON. Only for requests that read: they may be sent more than once.
    pub fn post<T: DeserializeOwned>(&self, path: &str, json: &Json) -> Result<T, Error> {
        let address = format!("{}{path}", self.options.address);
        let json = json.to_string();
        let send = || {
            let request = self.agent.post(&address).header(CONTENT_TYPE, "application/json");
            self.authenticated(request).send(json.as_bytes())
        };
        let body = self.repeat(send)?;
        self.read(&body)
    }

    /// The server, for messages.
    pub fn address(&self) -> String {
        self.options.address.to_string()
    }

    /// Reads JSON. The parser's message is not passed on, because it may quote what was read.
    pub fn read<T: DeserializeOwned>(&self, json: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(json).map_err(|error| {
            let what = match error.classify() {
                serde_json::error::Category::Eof => "ends too early",
                serde_json::error::Category::Data => "is not what was asked for",
                _ => "is not valid",
            };
            self.wrong(format!("Its JSON {what} at line {} column {}.", error.line(), error.column()))
        })
    }

    /// The error for an answer that is not right.
    pub fn wrong(&self, detail: String) -> Error {
        Error::Answer { address: self.address(), detail }
    }

    fn authenticated<T>(&self, mut request: RequestBuilder<T>) -> RequestBuilder<T> {
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }

    fn repeat(&self, send: impl Fn() -> Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, Error> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..self.options.retries {
            match self.attempt(&send) {
                Err(failure) if failure.passing => {
                    let time = failure.after.unwrap_or(pause).min(LONGEST_PAUSE);
                    self.process.sleep(time).map_err(|error| self.failed(error).error)?;
                    pause *= 2;
                }
                other => return other.map_err(|failure| failure.error),
            }
        }
        self.attempt(&send).map_err(|failure| failure.error)
    }

    fn attempt(&self, send: impl Fn() -> Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, Failure> {
        let mut response = send().map_err(|error| self.failed(error))?;
        let status = response.status();
        if !status.is_success() {
            let detail = if status.is_redirection() {
                "Redirects are not followed.".to_owned()
            } else {
                self.refusal(&mut response)?
            };
            let after = retry_after(&response);
            let error = Error::Refused { address: self.address(), status: status.as_u16(), detail };
            return Err(Failure {
                error,
                passing: status.as_u16() == 429 || status.is_server_error(),
                after,
            });
        }
        if response.headers().get(CONTENT_ENCODING).is_some_and(|value| value != "identity") {
            return Err(self.wrong("It is compressed, which was not asked for.".to_owned()).into());
        }
        if response.body().content_length().is_some_and(|length| length > MAX_ANSWER_BYTES) {
            return Err(Error::LongAnswer { address: self.address(), limit: MAX_ANSWER_BYTES }.into());
        }
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        body.map_err(|error| self.failed(error))
    }

    /// What a server says that refuses, without what authenticates.
    fn refusal(&self, response: &mut Response<Body>) -> Result<String, Failure> {
        let mut said = Vec::new();
        if let Err(error) = response.body_mut().as_reader().take(MAX_REFUSAL_BYTES).read_to_end(&mut said) {
            let failure = self.failed(error.into());
            // The status is known, so that other reasons not to get the rest do not matter.
            if matches!(failure.error, Error::Interrupted) {
                return Err(failure);
            }
        }
        let json: Json = serde_json::from_slice(&said).unwrap_or_default();
        let found =
            ["/status/error", "/message", "/error"].into_iter().find_map(|at| json.pointer(at)?.as_str());
        let mut text = found.map_or_else(|| String::from_utf8_lossy(&said).into_owned(), str::to_owned);
        for secret in self.options.secrets().filter(|secret| !secret.is_empty()) {
            text = text.replace(&*secret, "***");
        }
        let line = text.chars().map(|character| if character.is_control() { ' ' } else { character });
        let line: String = line.take(MAX_REFUSAL_CHARS).collect();
        let code = response.status().as_u16();
        Ok(match line.trim() {
            "" => format!("It answered with status {code}."),
            line => format!("It answered with status {code}: {}.", line.trim_end_matches('.')),
        })
    }

    fn failed(&self, error: ureq::Error) -> Failure {
        let server = |detail: String, passing| Failure {
            error: Error::Server { address: self.address(), detail },
            passing,
            after: None,
        };
        let of_tls = |error: &rustls::Error| server(format!("TLS: {error}."), false);
        match error {
            ureq::Error::Other(inner) if inner.is::<Interrupted>() => Error::Interrupted.into(),
            ureq::Error::Timeout(Timeout::Connect) => {
                let limit = self.options.connect_timeout.as_millis();
                server(format!("No connection was made within {limit} ms."), true)
            }
            // Another try would take as long again.
            ureq::Error::Timeout(_) => {
                server(format!("It did not answer within {} ms.", self.options.timeout.as_millis()), false)
            }
            ureq::Error::HostNotFound => server("Its name has no address.".to_owned(), true),
            ureq::Error::BodyExceedsLimit(_) => {
                Error::LongAnswer { address: self.address(), limit: MAX_ANSWER_BYTES }.into()
            }
            ureq::Error::LargeResponseHeader(..) => {
                Error::LongAnswer { address: self.address(), limit: MAX_HEAD_BYTES as u64 }.into()
            }
            ureq::Error::Protocol(error) => self.wrong(format!("It is not HTTP: {error}.")).into(),
            ureq::Error::Rustls(error) => of_tls(&error),
            ureq::Error::Io(error) => {
                match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(error) => of_tls(error),
                    None => server(format!("The connection failed: {error}."), true),
                }
            }
            other => server(format!("{other}."), false),
        }
    }
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What authenticates, as it is sent.
fn headers(options: &Options) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
    let refuse = || Error::Server {
        address: options.address.to_string(),
        detail: "What authenticates has characters that cannot be sent.".to_owned(),
    };
    let header = |(name, value): &(String, String)| {
        let name = HeaderName::try_from(name.as_str()).map_err(|_| refuse())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| refuse())?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    options.credentials.iter().map(header).collect()
}

/// Certificates are always checked: against those of a file, or the system's.
fn tls(options: &Options) -> Result<TlsConfig, Error> {
    let refuse = |detail: String| Error::Server { address: options.address.to_string(), detail };
    let roots = match &options.ca_file {
        Some(path) => {
            certificates(path).map_err(|detail| refuse(format!("File \"{}\": {detail}.", path.display())))?
        }
        None => {
            load_native_certs().certs.iter().map(|found| Certificate::from_der(found).to_owned()).collect()
        }
    };
    if roots.is_empty() {
        return Err(refuse("There are no certificates to check the server's by.".to_owned()));
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).to_string());
    }
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| "it is not PEM".to_owned())? {
            found.push(certificate);
        }
    }
    Ok(found)
}
