//! What can go wrong with a request.

use std::time::Duration;

use thiserror::Error;

/// Why there is no answer, or none that can be used. Nothing here tells a credential.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// [`Process::interrupted`](super::Process::interrupted) said so.
    #[error("interrupted")]
    Interrupted,
    /// The URL is not one of a server.
    #[error("invalid URL of a server: {0}")]
    Url(&'static str),
    /// There is a credential, and whoever listens on the way could read it.
    #[error("credentials would be sent to \"{server}\" in plain text")]
    Insecure { server: String },
    /// A credential that no header can carry. Its value is not told.
    #[error("credentials for \"{server}\" contain characters that cannot be sent")]
    Credential { server: String },
    /// Certificates to check the server's by cannot be had.
    #[error("could not read certificates from {place}")]
    Certificates { place: String, detail: String },
    /// No connection, or one that broke.
    #[error("could not communicate with \"{server}\"")]
    Connection { server: String, detail: String },
    /// It took too long.
    #[error("no answer from \"{server}\" within {} ms", limit.as_millis())]
    TimedOut { server: String, limit: Duration },
    /// An answer that is not HTTP, or not what was asked for.
    #[error("invalid HTTP response from \"{server}\"")]
    Protocol { server: String, detail: String },
    /// An answer that would send us elsewhere.
    #[error("\"{server}\" redirects, which is not followed")]
    Redirect { server: String, status: u16 },
    /// A body beyond its limit.
    #[error("response of \"{server}\" exceeds {limit} bytes")]
    TooLarge { server: String, limit: u64 },
    /// An answer that says no.
    #[error("\"{server}\" answered with status {status}")]
    Status {
        server: String,
        status: u16,
        /// The beginning of its body.
        body: String,
    },
}
