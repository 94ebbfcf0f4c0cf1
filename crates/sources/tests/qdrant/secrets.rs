//! What authenticates goes to the server, encrypted, and nowhere else.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use vector_embed_sources::http::{Address, Options};
use vector_embed_sources::{Error, Type};

use crate::support::{Server, host, read, scan, source_of, told};

const ID: [(&str, Type); 1] = [("id", Type::Text)];
const KEY: &str = "a-key-that-nobody-may-see";

fn with_key(options: Options, key: &str) -> Options {
    Options { credentials: vec![("api-key".to_owned(), key.to_owned())], ..options }
}

#[test]
fn a_key_opens_its_server_and_is_told_to_nobody() {
    let mut server = Server::with_key(Some(KEY));
    let good = source_of(with_key(server.options(), KEY), host());
    assert_eq!(read(&good, &scan("notes", &ID)).unwrap().rows.len(), 1000);
    assert!(server.seen().iter().all(|request| request["has_key"] == true));

    let without = read(&server.source(), &scan("notes", &ID)).unwrap_err();
    assert!(matches!(without, Error::Refused { status: 401, .. }), "{without:?}");

    // The server says what it was sent.
    let wrong = format!("{KEY}-wrong");
    let options = with_key(server.options(), &wrong);
    assert!(!format!("{options:?}").contains(KEY), "{options:?}");
    let source = source_of(options, host());
    let error = read(&source, &scan("notes", &ID)).unwrap_err();
    assert!(told(&error).contains("not ***"), "{}", told(&error));
    assert!(!format!("{error:?} {:?} {:?}", source.place, told(&error)).contains(KEY));

    let broken = source_of(with_key(server.options(), "a\r\nb-secret"), host());
    let error = read(&broken, &scan("notes", &ID)).unwrap_err();
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[test]
fn a_key_goes_unencrypted_to_this_machine_only() {
    // An address for documentation: nobody is there.
    for address in ["http://192.0.2.1:6333", "http://qdrant.example:6333"] {
        let options = Options::new(Address::parse(address).unwrap());
        let source = source_of(with_key(options, KEY), host());
        let error = read(&source, &scan("notes", &ID)).unwrap_err();
        assert!(matches!(error, Error::PlainCredentials { .. }), "{error:?}");
    }
    let server = Server::with_key(Some(KEY));
    let address = Address::parse(&format!("http://localhost:{}", server.port)).unwrap();
    let source = source_of(with_key(Options::new(address), KEY), host());
    assert_eq!(read(&source, &scan("notes", &ID)).unwrap().rows.len(), 1000);
}

#[test]
fn a_key_does_not_follow_a_redirect() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let mut server = Server::with_key(Some(KEY));
    let location = format!("http://{}/collections/notes", elsewhere.local_addr().unwrap());
    for status in [301, 302, 303, 307, 308] {
        server.faults(&[
            serde_json::json!({"kind": "status", "status": status, "headers": {"location": location}}),
        ]);
        let source = source_of(with_key(server.options(), KEY), host());
        let error = read(&source, &scan("notes", &ID)).unwrap_err();
        assert!(matches!(error, Error::Refused { status: found, .. } if found == status), "{error:?}");
    }
    assert!(elsewhere.accept().is_err(), "nobody came");
}

/// Accepts connections with a certificate and hands what is in them to a server, one request each, for as long as the
/// test runs.
fn encrypted(port: u16, config: ServerConfig) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    thread::spawn(move || {
        for client in listener.incoming() {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let mut client = StreamOwned::new(ServerConnection::new(config).unwrap(), client.unwrap());
                // One request with a body, or without.
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    request.extend(&buffer[..count]);
                    let text = String::from_utf8_lossy(&request).to_lowercase();
                    let Some(head) = text.find("\r\n\r\n") else { continue };
                    let length = text
                        .split("content-length: ")
                        .nth(1)
                        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
                    if request.len() < head + 4 + length {
                        continue;
                    }
                    let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    let own = String::from_utf8(std::mem::take(&mut request)).unwrap();
                    server
                        .write_all(own.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes())
                        .unwrap();
                    let mut answer = Vec::new();
                    server.read_to_end(&mut answer).unwrap();
                    client.write_all(&answer).unwrap();
                    client.conn.send_close_notify();
                    client.flush().unwrap();
                    return;
                }
            });
        }
    });
    own
}

#[test]
fn certificates_are_checked() {
    let server = Server::with_key(Some(KEY));
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority of this test");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let config = |name: &str| {
        let pair = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&pair, &authority).unwrap();
        let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    };
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), authority.pem()).unwrap();
    let right = encrypted(server.port, config("localhost"));
    let wrong = encrypted(server.port, config("elsewhere.example"));
    let at = |port: u16, ca_file: Option<&std::path::Path>| {
        let address = Address::parse(&format!("https://localhost:{port}")).unwrap();
        let options = Options { ca_file: ca_file.map(std::path::Path::to_owned), ..Options::new(address) };
        read(&source_of(with_key(options, KEY), host()), &scan("notes", &ID))
    };
    assert_eq!(at(right, Some(ca_file.path())).unwrap().rows.len(), 1000);
    for (found, part) in [
        (at(right, None), "TLS: "),
        (at(wrong, Some(ca_file.path())), "TLS: "),
        (at(server.port, Some(ca_file.path())), "TLS: "),
        (at(right, Some("/dev/zero".as_ref())), "/dev/zero"),
        (at(right, Some("/etc/hostname".as_ref())), "certificates"),
    ] {
        let error = found.unwrap_err();
        assert!(told(&error).contains(part), "{}", told(&error));
    }
}
