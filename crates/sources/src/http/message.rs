//! Requests and answers of HTTP/1.1.

use std::time::Instant;

use super::connection::Connection;
use super::{Fault, Options};
use crate::host::Host;

const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 64 << 10;
const CHUNK_BYTES: usize = 64 << 10;

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Whether the connection takes another request.
    pub(super) keeps_open: bool,
}

impl Answer {
    /// Status and what a server says of it, on one line.
    pub(super) fn told(&self) -> String {
        let said: String = String::from_utf8_lossy(&self.body[..self.body.len().min(400)])
            .chars()
            .map(|character| if character.is_control() { ' ' } else { character })
            .take(200)
            .collect();
        match self.status {
            300..=399 => format!("status {}, and redirects are not followed", self.status),
            _ if said.trim().is_empty() => format!("status {}", self.status),
            _ => format!("status {}, {}", self.status, said.trim()),
        }
    }
}

/// A request as it is sent.
pub(super) fn request(options: &Options, method: &str, path: &str, body: Option<&str>) -> String {
    let address = &options.address;
    let mut request = format!(
        "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nUser-Agent: vector_embed\r\n",
        address.base(),
        address.authority()
    );
    for (name, value) in &options.credentials {
        request += &format!("{name}: {value}\r\n");
    }
    match body {
        Some(body) => {
            request +=
                &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
        None => request += "\r\n",
    }
    request
}

/// How long a body is.
enum Length {
    Known(u64),
    Chunked,
    ToTheEnd,
}

struct Head {
    status: u16,
    length: Length,
    keeps_open: bool,
    bytes: usize,
}

/// Reads a whole answer.
pub(super) fn read(
    connection: &mut Connection,
    host: &Host,
    deadline: Instant,
    max_bytes: u64,
) -> Result<Answer, Fault> {
    let mut input = Input { connection, host, deadline, max_bytes, bytes: Vec::new() };
    let head = loop {
        match head(&input.bytes)? {
            // What comes before the answer proper, such as 100.
            Some(head) if head.status < 200 => drop(input.bytes.drain(..head.bytes)),
            Some(head) => break head,
            None if input.bytes.len() > MAX_HEAD_BYTES => return Err(malformed("its head is too long")),
            None => {
                if !input.more()? {
                    return Err(Fault::Passing("The server closed the connection".to_owned()));
                }
            }
        }
    };
    input.bytes.drain(..head.bytes);
    let (body, keeps_open) = match head.length {
        Length::Known(bytes) => (input.take(bytes)?, head.keeps_open),
        Length::Chunked => (input.chunks()?, head.keeps_open),
        Length::ToTheEnd => {
            while input.more()? {}
            (std::mem::take(&mut input.bytes), false)
        }
    };
    // What is left belongs to no request.
    let keeps_open = keeps_open && input.bytes.is_empty();
    Ok(Answer { status: head.status, body, keeps_open })
}

fn malformed(why: &str) -> Fault {
    Fault::Final(format!("The answer is not HTTP: {why}."))
}

fn head(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(bytes).map_err(|error| malformed(&error.to_string()))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let value = |name: &str| {
        let header = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(header.value).trim().to_ascii_lowercase())
    };
    let status = answer.code.unwrap_or_default();
    let body = match (value("transfer-encoding"), value("content-length")) {
        _ if status == 204 || status == 304 || status < 200 => Length::Known(0),
        (Some(encoding), _) if encoding == "chunked" => Length::Chunked,
        (Some(_), _) => return Err(malformed("its transfer encoding is unknown")),
        (None, Some(bytes)) => {
            Length::Known(bytes.parse().map_err(|_| malformed("its length is no number"))?)
        }
        (None, None) => Length::ToTheEnd,
    };
    if value("content-encoding").is_some_and(|encoding| encoding != "identity") {
        return Err(malformed("it is compressed, which was not asked for"));
    }
    let keeps_open = answer.version == Some(1) && value("connection").is_none_or(|value| value != "close");
    Ok(Some(Head { status, length: body, keeps_open, bytes: length }))
}

struct Input<'a> {
    connection: &'a mut Connection,
    host: &'a Host,
    deadline: Instant,
    max_bytes: u64,
    /// What has come and has not been taken.
    bytes: Vec<u8>,
}

impl Input<'_> {
    /// Waits for more; false at the end.
    fn more(&mut self) -> Result<bool, Fault> {
        let before = self.bytes.len();
        if before as u64 > self.max_bytes {
            return Err(Fault::Final(format!("The answer has more than {} bytes.", self.max_bytes)));
        }
        self.bytes.resize(before + CHUNK_BYTES, 0);
        let received = self.connection.receive(&mut self.bytes[before..], self.host, self.deadline);
        self.bytes.truncate(before + *received.as_ref().unwrap_or(&0));
        Ok(received? > 0)
    }

    fn take(&mut self, bytes: u64) -> Result<Vec<u8>, Fault> {
        if bytes > self.max_bytes {
            return Err(Fault::Final(format!("The answer has {bytes} bytes.")));
        }
        let bytes = bytes as usize;
        while self.bytes.len() < bytes {
            if !self.more()? {
                return Err(Fault::Passing("The answer was cut off".to_owned()));
            }
        }
        let rest = self.bytes.split_off(bytes);
        Ok(std::mem::replace(&mut self.bytes, rest))
    }

    fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.bytes.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.bytes.len() > MAX_HEAD_BYTES {
                return Err(malformed("a chunk has no length"));
            }
            if !self.more()? {
                return Err(Fault::Passing("The answer was cut off".to_owned()));
            }
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = u64::from_str_radix(digits, 16).map_err(|_| malformed("a chunk has no length"))?;
            if length == 0 {
                while !self.line()?.is_empty() {} // trailers
                return Ok(body);
            }
            if body.len() as u64 + length.min(self.max_bytes) > self.max_bytes {
                return Err(Fault::Final(format!("The answer has more than {} bytes.", self.max_bytes)));
            }
            body.extend_from_slice(&self.take(length)?);
            if !self.line()?.is_empty() {
                return Err(malformed("a chunk is longer than it says"));
            }
        }
    }
}
