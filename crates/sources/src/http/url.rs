//! The URL of a server.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::error::Error;

/// Scheme, host, port, and a path that requests are below. Has no credentials in it.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// Reads a URL, which has no port but the scheme's own if it tells none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        // The parser's message may quote what was given, so it is not passed on.
        let url = Url::parse(text).map_err(|_| Error::Url("it cannot be parsed"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Url("it begins with neither http:// nor https://"));
        }
        if !url.has_host() {
            return Err(Error::Url("it names no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Url("it contains a user name or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Error::Url("it contains \"?\" or \"#\""));
        }
        Ok(Self(url))
    }

    /// The port, if it is told and not the scheme's own.
    pub fn port(&self) -> Option<u16> {
        self.0.port()
    }

    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether its host can only be this machine. `localhost` counts: the client takes only loopback addresses for it
    /// where that matters.
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            None => false,
        }
    }

    /// URL of something below, by the segments of its path and its query.
    pub(super) fn below(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, Error> {
        // No encoding keeps these from being steps in the path.
        if path.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(Error::Url("a name in its path is empty, \".\" or \"..\""));
        }
        let mut url = self.0.clone();
        // Only URLs without host have no segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_credentials_or_without_host_is_refused() {
        for text in [
            "", "db", "ftp://host", "file:///etc/passwd", "http://", "http://me:secret@host", "http://me@host",
            "http://host/?key=secret", "http://host/#a", "unix:/tmp/socket",
        ] {
            let error = ServerUrl::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn segments_cannot_leave_the_path() {
        let server = ServerUrl::parse("https://host:6333/base/").unwrap();
        assert_eq!(server.to_string(), "https://host:6333/base");
        let url = server.below(&["collections", "a/../b?c#d e"], &[("limit", "1&2")]).unwrap();
        assert_eq!(url.as_str(), "https://host:6333/base/collections/a%2F..%2Fb%3Fc%23d%20e?limit=1%262");
        for dots in ["", ".", ".."] {
            assert!(server.below(&["collections", dots, "points"], &[]).is_err(), "{dots}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        let is = |text: &str| ServerUrl::parse(text).unwrap().is_loopback();
        assert!(["http://127.0.0.1:1", "http://[::1]", "http://LOCALHOST:3", "http://127.9.9.9"].iter().all(|u| is(u)));
        assert!(is("http://[::ffff:127.0.0.1]"));
        assert!(!["http://10.0.0.1", "http://localhost.example.com", "http://[::]", "http://0.0.0.0"].iter().any(|u| is(u)));
    }
}
