//! A connection, encrypted where the address says so.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{Address, Fault};
use crate::host::{Host, Interest};

/// A connection to a server.
pub(super) enum Connection {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    /// Connects. Looking up the server's name is the one wait that cannot be interrupted.
    pub(super) fn open(address: &Address, host: &Host, deadline: Instant) -> Result<Self, Fault> {
        let places = (address.host(), address.port())
            .to_socket_addrs()
            .map_err(|error| Fault::io("looking up the server's address", &error))?;
        let mut fault = Fault::Passing("The server's name has no address".to_owned());
        for place in places {
            match connected(place, host, deadline) {
                Ok(stream) => {
                    return if address.is_secure() {
                        secure(stream, address)
                    } else {
                        Ok(Self::Plain(stream))
                    };
                }
                Err(Fault::Interrupted) => return Err(Fault::Interrupted),
                Err(other) => fault = other,
            }
        }
        Err(fault)
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secure(stream) => &stream.sock,
        }
    }

    fn wait(&self, interest: Interest, host: &Host, deadline: Instant) -> Result<(), Fault> {
        let interest = match self {
            Self::Secure(stream) if stream.conn.wants_write() => Interest::Both,
            _ => interest,
        };
        wait(self.socket(), interest, host, deadline)
    }

    /// Sends all of it.
    pub(super) fn send(&mut self, mut bytes: &[u8], host: &Host, deadline: Instant) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Plain(stream) => stream.write(bytes),
                Self::Secure(stream) => stream.write(bytes),
            };
            match written {
                Ok(0) => return Err(Fault::Passing("The server closed the connection".to_owned())),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if is_passing(&error) => self.wait(Interest::Both, host, deadline)?,
                Err(error) => return Err(failed("Sending", &error)),
            }
        }
        loop {
            let flushed = match self {
                Self::Plain(stream) => stream.flush(),
                Self::Secure(stream) => stream.flush(),
            };
            match flushed {
                Ok(()) => return Ok(()),
                Err(error) if is_passing(&error) => self.wait(Interest::Both, host, deadline)?,
                Err(error) => return Err(failed("Sending", &error)),
            }
        }
    }

    /// Receives some bytes; 0 at the end.
    pub(super) fn receive(
        &mut self,
        into: &mut [u8],
        host: &Host,
        deadline: Instant,
    ) -> Result<usize, Fault> {
        loop {
            let read = match self {
                Self::Plain(stream) => stream.read(into),
                Self::Secure(stream) => stream.read(into),
            };
            match read {
                Ok(count) => return Ok(count),
                Err(error) if is_passing(&error) => self.wait(Interest::Readable, host, deadline)?,
                Err(error) => return Err(failed("Receiving", &error)),
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// A certificate that is refused is refused again.
fn failed(doing: &str, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::InvalidData => Fault::Final(format!("{doing} failed: {error}.")),
        _ => Fault::io(doing, error),
    }
}

fn wait(socket: &TcpStream, interest: Interest, host: &Host, deadline: Instant) -> Result<(), Fault> {
    let Some(left) = deadline.checked_duration_since(Instant::now()) else {
        return Err(Fault::Passing("The server did not answer in time".to_owned()));
    };
    (host.wait)(Some((socket.as_fd(), interest)), left);
    if (host.interrupted)() { Err(Fault::Interrupted) } else { Ok(()) }
}

fn connected(place: SocketAddr, host: &Host, deadline: Instant) -> Result<TcpStream, Fault> {
    let failed = |error: Errno| Fault::io("Connecting", &error.into());
    let family = if place.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(failed)?;
    let connecting = connect(&socket, &place);
    let stream = TcpStream::from(socket);
    match connecting {
        Ok(()) => return Ok(stream),
        Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(failed(error)),
    }
    loop {
        wait(&stream, Interest::Both, host, deadline)?;
        sockopt::socket_error(&stream).map_err(failed)?.map_err(failed)?;
        if stream.peer_addr().is_ok() {
            // An answer is worth more than full packets.
            stream.set_nodelay(true).map_err(|error| Fault::io("Connecting", &error))?;
            return Ok(stream);
        }
    }
}

fn secure(stream: TcpStream, address: &Address) -> Result<Connection, Fault> {
    let failed =
        |error: &dyn std::fmt::Display| Fault::Final(format!("Encryption cannot be set up: {error}."));
    let mut roots = RootCertStore::empty();
    // Those that this machine trusts, as far as they can be read.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(address.host()).map_err(|error| failed(&error))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| failed(&error))?;
    Ok(Connection::Secure(Box::new(StreamOwned::new(connection, stream))))
}
