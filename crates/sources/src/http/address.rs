//! Where a server is.

use std::fmt;

use url::{Host, Url};

/// The address of a server, `http` or `https`, with nothing in it that authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Reads an address; says as a sentence what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "It is an address such as http://host:8000.")?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("Its scheme is http or https.");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("What authenticates goes to a user mapping.");
        }
        if url.query().is_some() || url.fragment().is_some() || url.host().is_none() {
            return Err("It is an address such as http://host:8000.");
        }
        Ok(Self(url))
    }

    pub(super) fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The name or address of the machine, without the brackets of IPv6.
    pub(super) fn host(&self) -> String {
        match self.0.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(80)
    }

    /// As header `Host` has it.
    pub(super) fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// What every path begins with.
    pub(super) fn base(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// A part of a path, such as a name that somebody chose.
pub(crate) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut path, byte| {
        match byte {
            b'-' | b'_' | b'~' => path.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => path.push(char::from(byte)),
            // A dot, too: two of them would lead elsewhere.
            _ => path.push_str(&format!("%{byte:02X}")),
        }
        path
    })
}
