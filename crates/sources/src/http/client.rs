//! Requests, and when they are repeated.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_native_certs::load_native_certs;
use ureq::config::AutoHeaderValue;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{HeaderValue, Response};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{Connector, RustlsConnector};
use ureq::{Agent, Body};

use super::Credential;
use super::error::Error;
use super::socket::{Interrupted, Names, Process, Sockets};
use super::url::ServerUrl;

const MAX_HEADERS: usize = 64 * 1024;
/// How much of a refusal's body is read.
const MAX_REFUSAL: usize = 4096;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// No pause between two attempts is longer, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How to talk to a server.
#[derive(Debug, Clone)]
pub struct Settings {
    pub url: ServerUrl,
    /// Certificates (PEM) that the server's must come from; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    pub credential: Option<Credential>,
    /// Whether credentials may go over plain HTTP to another machine.
    pub allow_plain: bool,
    /// For a connection, with its TLS handshake.
    pub connect_timeout: Duration,
    /// For one attempt, from looking up the name to the last byte.
    pub timeout: Duration,
    /// How often a request is repeated after a failure that may pass.
    pub retries: u32,
    /// Most bytes of a response.
    pub max_body: u64,
    pub process: Process,
}

/// A server, and the connection to it that is kept.
pub struct Client {
    settings: Settings,
    credential: Option<HeaderValue>,
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
    /// Prepares to talk to a server. No connection is made before the first request.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let server = || settings.url.to_string();
        let plain = settings.credential.is_some() && !settings.url.is_encrypted();
        if plain && !settings.allow_plain && !settings.url.is_loopback() {
            return Err(Error::Insecure { server: server() });
        }
        let credential = settings.credential.as_ref().map(|credential| {
            let value = format!("{}{}", credential.prefix, credential.secret);
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| Error::Credential { server: server() })?;
            value.set_sensitive(true);
            Ok(value)
        });
        let credential = credential.transpose()?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("vector_embed/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .accept_encoding(AutoHeaderValue::None)
            .max_response_header_size(MAX_HEADERS)
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_global(Some(settings.timeout));
        let config = if settings.url.is_encrypted() { config.tls_config(tls(&settings)?) } else { config };
        let names = Names { loopback_only: plain && !settings.allow_plain };
        let sockets = Sockets { process: settings.process };
        let agent = Agent::with_parts(config.build(), sockets.chain(RustlsConnector::default()), names);
        Ok(Self { settings, credential, agent })
    }

    pub fn server(&self) -> &ServerUrl {
        &self.settings.url
    }

    /// The body that GET gives. Path segments and query are encoded.
    pub fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
        let url = self.settings.url.below(path, query)?;
        self.repeat(|| {
            let mut request = self.agent.get(url.as_str());
            if let Some((credential, value)) = self.settings.credential.as_ref().zip(self.credential.as_ref()) {
                request = request.header(credential.header, value);
            }
            request.call()
        })
    }

    /// The body that POST of JSON gives. It may be sent several times, so it must be one that only reads.
    pub fn post(&self, path: &[&str], json: &[u8]) -> Result<Vec<u8>, Error> {
        let url = self.settings.url.below(path, &[])?;
        self.repeat(|| {
            let mut request = self.agent.post(url.as_str()).header(CONTENT_TYPE, "application/json");
            if let Some((credential, value)) = self.settings.credential.as_ref().zip(self.credential.as_ref()) {
                request = request.header(credential.header, value);
            }
            request.send(json)
        })
    }

    fn repeat(&self, send: impl Fn() -> Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, Error> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..self.settings.retries {
            match self.attempt(&send) {
                Ok(body) => return Ok(body),
                Err(failure) if failure.passing => {
                    let time = failure.after.unwrap_or(pause).min(LONGEST_PAUSE);
                    self.settings.process.sleep(time).map_err(|error| self.failed(error).error)?;
                    pause *= 2;
                }
                Err(failure) => return Err(failure.error),
            }
        }
        self.attempt(&send).map_err(|failure| failure.error)
    }

    fn attempt(&self, send: impl Fn() -> Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, Failure> {
        let mut response = send().map_err(|error| self.failed(error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(Error::Redirect { server: self.server().to_string(), status: status.as_u16() }.into());
        }
        if !status.is_success() {
            let after = retry_after(&response);
            let body = self.refusal(&mut response)?;
            let error = Error::Status { server: self.server().to_string(), status: status.as_u16(), body };
            let passing = status.as_u16() == 429 || status.is_server_error();
            return Err(Failure { error, passing, after });
        }
        if response.headers().get(CONTENT_ENCODING).is_some_and(|value| value != "identity") {
            let detail = "The response is compressed, which was not asked for.".to_owned();
            return Err(Error::Protocol { server: self.server().to_string(), detail }.into());
        }
        let limit = self.settings.max_body;
        if response.body().content_length().is_some_and(|length| length > limit) {
            return Err(Error::TooLarge { server: self.server().to_string(), limit }.into());
        }
        // One byte more, because the limit is an error already when it is reached.
        let body = response.body_mut().with_config().limit(limit.saturating_add(1)).read_to_vec();
        body.map_err(|error| self.failed(error))
    }

    /// What a server says that refuses, without credentials in it.
    fn refusal(&self, response: &mut Response<Body>) -> Result<String, Failure> {
        let mut read = Vec::new();
        let mut reader = io::Read::take(response.body_mut().as_reader(), MAX_REFUSAL as u64);
        if let Err(error) = io::Read::read_to_end(&mut reader, &mut read) {
            let failure = self.failed(error.into());
            // The status is known, so that another failure to read the body does not matter.
            if matches!(failure.error, Error::Interrupted) {
                return Err(failure);
            }
        }
        let text = String::from_utf8_lossy(&read).into_owned();
        Ok(match &self.settings.credential {
            Some(credential) if !credential.secret.is_empty() => text.replace(&credential.secret, "***"),
            _ => text,
        })
    }

    fn failed(&self, error: ureq::Error) -> Failure {
        let server = self.server().to_string();
        let connection = |detail: String, passing| Failure {
            error: Error::Connection { server: server.clone(), detail },
            passing,
            after: None,
        };
        match error {
            ureq::Error::Other(inner) if inner.is::<Interrupted>() => Error::Interrupted.into(),
            ureq::Error::Timeout(ureq::Timeout::Connect) => {
                connection(format!("No connection within {} ms.", self.settings.connect_timeout.as_millis()), true)
            }
            ureq::Error::Timeout(_) => Error::TimedOut { server, limit: self.settings.timeout }.into(),
            ureq::Error::HostNotFound => connection("The host name could not be resolved.".to_owned(), true),
            ureq::Error::BodyExceedsLimit(_) => Error::TooLarge { server, limit: self.settings.max_body }.into(),
            ureq::Error::LargeResponseHeader(..) => {
                Error::TooLarge { server, limit: MAX_HEADERS as u64 }.into()
            }
            ureq::Error::Protocol(error) => Error::Protocol { server, detail: format!("{error}.") }.into(),
            ureq::Error::Rustls(error) => connection(format!("TLS: {error}."), false),
            ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => connection(format!("TLS: {error}."), false),
                None => connection(format!("{error}."), true),
            },
            other => connection(format!("{other}."), false),
        }
    }
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Certificates are always checked: against those of a file, or the system's.
fn tls(settings: &Settings) -> Result<TlsConfig, Error> {
    let roots: Vec<Certificate<'static>> = match &settings.ca_file {
        Some(path) => {
            let refuse = |detail: String| Error::Certificates { place: format!("file \"{}\"", path.display()), detail };
            let pem = std::fs::read(path).map_err(|error| refuse(format!("{error}.")))?;
            let items: Result<Vec<_>, _> = parse_pem(&pem).collect();
            let items = items.map_err(|_| refuse("It is not PEM.".to_owned()))?;
            let roots: Vec<_> = items
                .into_iter()
                .filter_map(|item| if let PemItem::Certificate(found) = item { Some(found) } else { None })
                .collect();
            if roots.is_empty() {
                return Err(refuse("It contains no certificate.".to_owned()));
            }
            roots
        }
        None => {
            let found = load_native_certs();
            if found.certs.is_empty() {
                let place = "the system's store".to_owned();
                let detail = match found.errors.first() {
                    Some(error) => format!("{error}."),
                    None => "It is empty.".to_owned(),
                };
                return Err(Error::Certificates { place, detail });
            }
            found.certs.iter().map(|found| Certificate::from_der(found).to_owned()).collect()
        }
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}
