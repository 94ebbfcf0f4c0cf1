//! Options of servers that run, which are asked by HTTP.

use std::path::PathBuf;
use std::time::Duration;

use pgrx::pg_sys;
use vector_embed_sources::http;

use super::options::{Options, PATH, TIMEOUT, URL, check_path, fault, value};
use crate::error::{Error, OptionFault};

/// Certificates that the server's must come from.
pub(super) const CA_FILE: &str = "ca_file";
/// Seconds that connecting may take.
pub(super) const CONNECT_TIMEOUT: &str = "connect_timeout";
/// How often a request is tried again.
pub(super) const RETRIES: &str = "retries";
/// Whether what authenticates may go to another machine unencrypted.
pub(super) const ALLOW_PLAIN_HTTP: &str = "allow_plain_http";

/// Options that are of no use to a directory.
const OF_URL: &[&str] = &[CA_FILE, CONNECT_TIMEOUT, TIMEOUT, RETRIES, ALLOW_PLAIN_HTTP];

/// Checks where a store is: `url` or `path`. Whoever names a server that runs must be a superuser, since PostgreSQL
/// sends requests for him.
pub(super) fn check_place(options: &Options) -> Result<(), Error> {
    if options.get(URL).is_none() {
        if let Some(name) = OF_URL.iter().find(|name| options.get(name).is_some()) {
            return Err(fault(name, OptionFault::Needs { other: URL }));
        }
        return check_path(options, "It is the absolute path of a directory on the server.");
    }
    if options.get(PATH).is_some() {
        return Err(fault(URL, OptionFault::Both { other: PATH }));
    }
    // SAFETY: looks the current user up.
    if !unsafe { pg_sys::superuser() } {
        return Err(fault(URL, OptionFault::NoSuperuser));
    }
    if let Some(path) = options.get(CA_FILE).filter(|path| !path.starts_with('/')) {
        return Err(value(CA_FILE, path, "It is the absolute path of a file on the server."));
    }
    http_options(options).map(drop)
}

/// How to ask a server, if there is one, without what authenticates.
pub(super) fn http_options(options: &Options) -> Result<Option<http::Options>, Error> {
    let Some(address) = options.url()? else { return Ok(None) };
    let mut http = http::Options::new(address);
    http.timeout = options.timeout()?;
    if let Some(told) = options.get(CONNECT_TIMEOUT) {
        let seconds = told.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
        let valid = "It is a number of seconds, from 1 to 3600.";
        http.connect_timeout =
            Duration::from_secs(seconds.ok_or_else(|| value(CONNECT_TIMEOUT, told, valid))?);
    }
    if let Some(told) = options.get(RETRIES) {
        let retries = told.parse().ok().filter(|retries| *retries <= 10);
        http.retries = retries.ok_or_else(|| value(RETRIES, told, "It is a number from 0 to 10."))?;
    }
    http.allow_plain = match options.get(ALLOW_PLAIN_HTTP) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(value(ALLOW_PLAIN_HTTP, other, "Valid values are: true, false.")),
    };
    http.ca_file = options.get(CA_FILE).map(PathBuf::from);
    Ok(Some(http))
}
