//! A client of HTTP servers for processes that must not block.
//!
//! The protocol is ureq's, TLS is rustls's. The sockets are ours ([`socket`]): they are not blocking, and every wait is
//! the host's, so that a backend waits on its latch as well and a cancel ends a request at any point. There is no
//! thread. One step does block: looking up a name, which is `getaddrinfo` and takes as long as the system's resolver
//! does. Where that matters, name the server by its address.
//!
//! All requests are such as may be repeated (GET, and POST that only reads), so that passing failures are: no
//! connection, a connection that was cut, status 429 and those from 500 on. Redirects are not followed, proxies of the
//! environment not used, compression is not asked for. Headers and bodies have limits. Certificates are always
//! checked, against those of the system or of a file.
//!
//! What authenticates goes to the server of the address alone, and unencrypted only if that is on this machine or the
//! caller insists. It is in no error and no `Debug` output; what a server says is freed from it.

mod address;
mod client;
mod socket;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use address::Address;
pub(crate) use address::segment;
pub use client::Client;

/// How requests are sent.
#[derive(Clone)]
pub struct Options {
    /// Where the server is.
    pub address: Address,
    /// What authenticates: headers by their names. Never told in a message.
    pub credentials: Vec<(String, String)>,
    /// Whether that may be sent to another machine unencrypted.
    pub allow_plain: bool,
    /// Certificates (PEM) that the server's must come from; `None`: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// How long an answer may take, from connecting to its last byte. Each try has this time.
    pub timeout: Duration,
    /// How often a request is tried again after a failure that may pass.
    pub retries: u32,
}

impl Options {
    /// Options for a server that asks for no authentication.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            credentials: Vec::new(),
            allow_plain: false,
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(60),
            retries: 3,
        }
    }

    /// What authenticates, in all the ways in which a server may repeat it: the longest first.
    fn secrets(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.credentials.iter().flat_map(|(_, header)| {
            // Without what stands before it, such as "Bearer"; and the password, which is encoded.
            let (scheme, value) = header.split_once(' ').unwrap_or(("", header));
            let pair = if scheme.eq_ignore_ascii_case("Basic") { STANDARD.decode(value).ok() } else { None };
            let pair = pair.and_then(|pair| String::from_utf8(pair).ok()).unwrap_or_default();
            let password = pair.split_once(':').map(|(_, password)| password.to_owned());
            let secrets =
                [Some(header.into()), Some(value.into()), Some(pair.into()), password.map(Cow::Owned)];
            secrets.into_iter().flatten()
        })
    }
}

/// Bytes as header `Authorization` has them.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("address", &self.address).finish_non_exhaustive()
    }
}
