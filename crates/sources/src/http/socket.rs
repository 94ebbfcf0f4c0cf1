//! Sockets for ureq that wait by the caller's means.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Error, Timeout};

use crate::host::Interest;

/// The process that waits: [`Host`](crate::Host)'s functions of these names.
#[derive(Clone, Copy)]
pub(super) struct Process {
    pub(super) interrupted: fn() -> bool,
    pub(super) wait: fn(Option<(BorrowedFd<'_>, Interest)>, Duration),
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Process")
    }
}

/// What ureq hands through where the process was interrupted.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

impl Process {
    pub(super) fn check(&self) -> Result<(), Error> {
        if (self.interrupted)() { Err(Error::Other(Box::new(Interrupted))) } else { Ok(()) }
    }

    /// Waits for a socket, until a deadline.
    fn wait_for(&self, socket: BorrowedFd<'_>, interest: Interest, until: &Deadline) -> Result<(), Error> {
        (self.wait)(Some((socket, interest)), until.left()?);
        self.check()
    }

    /// Sleeps.
    pub(super) fn sleep(&self, time: Duration) -> Result<(), Error> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            (self.wait)(None, left);
        }
    }
}

/// When a step of ureq must be done.
struct Deadline {
    /// `None`: beyond what a clock can tell.
    at: Option<Instant>,
    reason: Timeout,
}

impl Deadline {
    /// Longest single wait, which is then repeated.
    const LONG: Duration = Duration::from_secs(60);

    fn new(timeout: NextTimeout) -> Self {
        Self { at: Instant::now().checked_add(*timeout.after), reason: timeout.reason }
    }

    fn left(&self) -> Result<Duration, Error> {
        let Some(at) = self.at else { return Ok(Self::LONG) };
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Error::Timeout(self.reason)) } else { Ok(left.min(Self::LONG)) }
    }
}

/// Looks up names, in this thread.
#[derive(Debug)]
pub(super) struct Names {
    /// Whether addresses of other machines do not count.
    pub(super) loopback_only: bool,
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found = (host, port).to_socket_addrs().map_err(|_| Error::HostNotFound)?;
        let mut addresses = self.empty();
        let wanted = |address: &SocketAddr| !self.loopback_only || address.ip().to_canonical().is_loopback();
        for address in found.filter(wanted).take(16) {
            addresses.push(address);
        }
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// Makes connections.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) process: Process,
}

impl Connector for Sockets {
    type Out = Socket;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Socket>, Error> {
        let mut failure = Error::ConnectionFailed;
        let (first, count) = (Instant::now(), details.addrs.len());
        for (index, address) in details.addrs.iter().enumerate() {
            // Each address has its share of what is left, so that one that does not answer leaves time for the next.
            let left = details.timeout.after.saturating_sub(first.elapsed());
            let share = Duration::from_secs(1).max(left / (count - index) as u32).min(left);
            let until = Deadline { at: Instant::now().checked_add(share), reason: details.timeout.reason };
            match open(*address, &self.process, &until) {
                Ok(stream) => {
                    let buffers = LazyBuffers::new(
                        details.config.input_buffer_size(),
                        details.config.output_buffer_size(),
                    );
                    return Ok(Some(Socket { stream, buffers, process: self.process }));
                }
                Err(error @ (Error::Io(_) | Error::Timeout(_))) => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }
}

/// Opens a connection.
fn open(address: SocketAddr, process: &Process, until: &Deadline) -> Result<TcpStream, Error> {
    process.check()?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP)).map_err(io)?;
    match connect(&socket, &address) {
        Ok(()) => {}
        // Interrupted by a signal, it goes on by itself, too.
        Err(Errno::INPROGRESS | Errno::INTR) => loop {
            process.wait_for(socket.as_fd(), Interest::Writable, until)?;
            sockopt::socket_error(&socket).map_err(io)?.map_err(io)?;
            match rustix::net::getpeername(&socket) {
                Ok(_) => break,
                // Woken for another reason.
                Err(Errno::NOTCONN) => {}
                Err(error) => return Err(io(error)),
            }
        },
        Err(error) => return Err(io(error)),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn io(error: Errno) -> Error {
    Error::Io(error.into())
}

/// A connection.
pub(super) struct Socket {
    stream: TcpStream,
    buffers: LazyBuffers,
    process: Process,
}

impl fmt::Debug for Socket {
    // Its buffers hold headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let until = Deadline::new(timeout.for_write());
        let mut rest = &self.buffers.output()[..amount];
        while !rest.is_empty() {
            self.process.check()?;
            match self.stream.write(rest) {
                Ok(0) => return Err(Error::Io(ErrorKind::WriteZero.into())),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.process.wait_for(self.stream.as_fd(), Interest::Writable, &until)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let until = Deadline::new(timeout.for_read());
        loop {
            self.process.check()?;
            // A server that never stops sending must not outlast the deadline, so that it is asked for each time.
            until.left()?;
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(amount) => {
                    self.buffers.input_appended(amount);
                    return Ok(amount > 0);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.process.wait_for(self.stream.as_fd(), Interest::Readable, &until)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        // Closed by the server, or something that nobody asked for: of no use either way.
        matches!(self.stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}
