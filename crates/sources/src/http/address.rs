//! Where a server is.

use std::fmt;

use url::{Host, Url};

/// The address of a server, `http` or `https`, with nothing in it that authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Reads an address; says as a sentence what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXAMPLE: &str = "It is an address such as http://host:8000.";
        let url = Url::parse(text).map_err(|_| EXAMPLE)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("Its scheme is http or https.");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("What authenticates goes to a user mapping.");
        }
        if url.query().is_some() || url.fragment().is_some() || url.host().is_none() {
            return Err(EXAMPLE);
        }
        Ok(Self(url))
    }

    pub(super) fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether its host can only be this machine. `localhost` counts: the client takes only loopback addresses for it
    /// where that matters.
    pub(super) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            None => false,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_no_credentials() {
        for text in [
            "",
            "db",
            "ftp://host",
            "file:///etc/passwd",
            "http://",
            "http://me:secret@host",
            "http://me@host",
            "http://host/?key=secret",
            "http://host/#a",
            "unix:/tmp/socket",
        ] {
            assert!(!Address::parse(text).unwrap_err().contains("secret"), "{text}");
        }
        assert_eq!(Address::parse("https://host:6333/base/").unwrap().to_string(), "https://host:6333/base");
    }

    #[test]
    fn a_segment_stays_one() {
        assert_eq!(segment("a/../b?c#d é"), "a%2F%2E%2E%2Fb%3Fc%23d%20%C3%A9");
    }

    #[test]
    fn loopback_is_this_machine_only() {
        let is = |text: &str| Address::parse(text).unwrap().is_loopback();
        for text in ["http://127.0.0.1:1", "http://[::1]", "http://LOCALHOST:3", "http://[::ffff:127.0.0.1]"]
        {
            assert!(is(text), "{text}");
        }
        for text in ["http://10.0.0.1", "http://localhost.example.com", "http://[::]", "http://0.0.0.0"] {
            assert!(!is(text), "{text}");
        }
    }
}
