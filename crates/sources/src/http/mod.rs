//! A blocking HTTP/1.1 client for a process that must not block: a PostgreSQL backend.
//!
//! The protocol is ureq's and TLS is rustls's. The sockets are ours ([`socket`]): they are not blocking, and whenever
//! one is not ready, the caller's [`Wait`] is asked to wait for it, so that a backend waits on its latch as well and a
//! cancel ends a request at any point. There is no thread. One step does block: looking up a name in DNS, which is
//! `getaddrinfo` and takes as long as the system's resolver does. Where that matters, name the server by its address.
//!
//! All requests are such as may be repeated (GET, and POST that only reads), so that passing failures are: no
//! connection, a connection that was cut, status 429 and those from 500 on. Redirects are not followed, proxies of the
//! environment not used, compression is not asked for. Headers and bodies have limits. Certificates are always
//! checked, against the system's or those of a file.
//!
//! Credentials go to the server of the URL alone, and over plain HTTP only if that is on this machine or the caller
//! insists. They are in no error and no `Debug` output; what a server says is freed from them.

mod client;
mod error;
mod socket;
mod url;

pub use client::{Client, Settings};
pub use error::Error;
pub use socket::{Process, Ready, Wait};
pub use url::ServerUrl;

use std::fmt;

/// A header whose value nobody may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Name of the header, such as `api-key`.
    pub header: &'static str,
    /// What stands before the secret, such as `Bearer `.
    pub prefix: &'static str,
    pub secret: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("header", &self.header).finish_non_exhaustive()
    }
}
