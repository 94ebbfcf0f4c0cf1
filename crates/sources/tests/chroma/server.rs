//! Chroma servers that run: chromadb's own, and one whose answers are written here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use vector_embed_sources::chroma::Server;
use vector_embed_sources::http::{Address, Options, base64};
use vector_embed_sources::sqlite::InvalidText;
use vector_embed_sources::{
    Comparison, Error, Filter, Host, OnError, Operand, Operation, Problem, Scan, Source, Type, Value,
};

use crate::directories::check_source;
use crate::support::{COLUMNS, Store, copy, host, ids, normalized, read, scan, script};

fn server(address: &str, host: Host) -> Server {
    Server {
        options: Options {
            credentials: vec![("Authorization".to_owned(), "Bearer secret".to_owned())],
            timeout: Duration::from_secs(20),
            ..Options::new(Address::parse(address).expect("an address"))
        },
        tenant: "default_tenant".to_owned(),
        database: "default_database".to_owned(),
        invalid_text: InvalidText::Strip,
        on_damage: OnError::Null,
        host,
    }
}

/// `chroma run` over a copy of a directory.
struct Chroma {
    process: Child,
    address: String,
    _directory: TempDir,
}

impl Chroma {
    fn start(path: &Path) -> Self {
        let directory = copy(path);
        let python = script("python", "1.5.9");
        // Free a moment ago; nobody else takes it here.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let process = Command::new(python.with_file_name("chroma"))
            .args(["run", "--host", "127.0.0.1", "--port", &port.to_string(), "--path"])
            .arg(directory.path())
            .env("ANONYMIZED_TELEMETRY", "False")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chroma can be run");
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(60), "chroma does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { process, address: format!("http://127.0.0.1:{port}"), _directory: directory }
    }
}

impl Drop for Chroma {
    fn drop(&mut self) {
        self.process.kill().expect("chroma runs");
        self.process.wait().expect("chroma is our child");
    }
}

#[test]
fn a_server_of_1_5_9_gives_what_its_directory_holds() {
    for name in ["small", "synced"] {
        let store = Store::of("1.5.9", name);
        let chroma = Chroma::start(&store.path);
        let source = |tenant: &str, database: &str| -> Box<dyn Source> {
            let (tenant, database) = (tenant.to_owned(), database.to_owned());
            Box::new(Server { tenant, database, ..server(&chroma.address, host()) })
        };
        check_source(&store, source, normalized);
    }
}

#[test]
fn a_server_is_asked_for_ids_and_no_more_rows_than_are_needed() {
    let store = Store::of("1.5.9", "synced");
    let chroma = Chroma::start(&store.path);
    let source = server(&chroma.address, host());
    let mut one = scan("segments", &[("id", Type::Text)]);
    one.filters.push(Filter {
        column: "id".to_owned(),
        of: Type::Text,
        operation: Operation::Compare(Comparison::Equal),
    });
    one.operands.push(Operand::Text("segments-00042".to_owned()));
    assert_eq!(ids(source.open(&one).expect("rows").as_mut()), ["segments-00042"]);
    let limited = Scan { limit: Some(3), ..scan("segments", &[("id", Type::Text)]) };
    assert_eq!(ids(source.open(&limited).expect("rows").as_mut()).len(), 3);
    let absent = Server { database: "absent".to_owned(), ..source.clone() };
    assert!(matches!(absent.tables(&|_| true), Err(Error::NoSchema { .. })));
    let missing = source.open(&scan("absent", &COLUMNS)).err().expect("an error");
    assert!(matches!(missing, Error::NoTable { .. }), "{missing}");
    let tables = source.tables(&|name| name != "product").expect("tables");
    assert_eq!(
        tables.iter().map(|table| &*table.name).collect::<Vec<_>>(),
        ["euclid", "segments", "collections"]
    );
}

/// A server that gives one written answer for each request, in turn.
struct Scripted {
    address: String,
    thread: JoinHandle<Vec<String>>,
}

impl Scripted {
    fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let thread = std::thread::spawn(move || {
            let answer = |answer: Vec<u8>| {
                let (mut stream, _) = listener.accept().expect("a client");
                let request = request(&stream);
                // The client may have gone.
                let _ = stream.write_all(&answer);
                request
            };
            answers.into_iter().map(answer).collect()
        });
        Self { address, thread }
    }

    fn requests(self) -> Vec<String> {
        self.thread.join().expect("each answer was asked for")
    }
}

fn request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().expect("a number");
        }
        request += &line;
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    request + &String::from_utf8(body).expect("UTF-8")
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

const COLLECTIONS: &str = r#"[{"id": "7446306d-aa37-4bd1-9b2e-f4ca944a3101", "name": "c", "dimension": 2, "metadata": null, "new": 1}]"#;

fn opening() -> Vec<Vec<u8>> {
    vec![answer("200 OK", COLLECTIONS), answer("200 OK", "[]")]
}

#[test]
fn failures_that_pass_are_tried_again_and_chunks_put_together() {
    let mut answers = vec![answer("503 Service Unavailable", "later"), b"HTTP/1.1 200".to_vec()];
    answers.extend(opening());
    let (first, second) =
        (r#"{"ids": ["a"], "documents": ["x"#, r#"y"], "embeddings": [[1.5, 2]], "more": 3}"#);
    let chunks = [first, second, ""].map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).concat();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    answers.push((head.to_owned() + &chunks).into_bytes());
    answers.push(answer("200 OK", r#"{"ids": []}"#));
    let scripted = Scripted::start(answers);
    let got = read(&server(&scripted.address, host()), &scan("c", &COLUMNS)).expect("rows");
    assert_eq!(got.rows["a"].document.as_deref(), Some("xy"));
    assert_eq!(got.rows["a"].vector, Some(vec![1.5, 2.0]));
    let requests = scripted.requests();
    assert!(
        requests.iter().all(|request| request.to_lowercase().contains("authorization: bearer secret\r\n"))
    );
    assert!(requests[4].contains(r#""offset":0"#) && requests[5].contains(r#""offset":1"#), "{requests:?}");
}

#[test]
fn numbers_of_a_server_arrive_to_the_last_bit() {
    let floats = [117.63331139400017, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308];
    let told = floats.map(|float| format!("{float:?}"));
    let metadata = format!(r#"{{"many": [{}], "whole": 9223372036854775807}}"#, told.join(", "));
    let mut answers = opening();
    answers.push(answer("200 OK", &format!(r#"{{"ids": ["a"], "metadatas": [{metadata}]}}"#)));
    let scripted = Scripted::start(answers);
    let source = server(&scripted.address, host());
    let mut rows = source.open(&scan("c", &[("metadata", Type::Jsonb)])).expect("rows");
    assert!(rows.next().expect("a row"));
    let Value::Json(text) = rows.value(0).expect("metadata") else { panic!("no JSON") };
    let list = text.split(['[', ']']).nth(1).expect("a list");
    let read: Vec<f64> = list.split(',').map(|number| number.parse().expect("a number")).collect();
    assert_eq!(read, floats);
    assert!(text.contains("9223372036854775807"), "{text}");
    scripted.requests();
}

#[test]
fn a_vector_with_a_number_that_is_none_costs_its_own_row_alone() {
    let page = r#"{"ids": ["a", "b"], "embeddings": [[1.5, null], [1.5, 2]]}"#;
    let columns = [("id", Type::Text), ("embedding", Type::Vector(Some(2)))];
    let start = || {
        let mut answers = opening();
        answers.push(answer("200 OK", page));
        Scripted::start(answers)
    };
    let scripted = start();
    let source = server(&scripted.address, host());
    let mut rows = source.open(&scan("c", &columns)).expect("rows");
    let mut vectors = Vec::new();
    for _ in 0..2 {
        assert!(rows.next().expect("a row"));
        vectors.push(match rows.value(1).expect("a vector or none") {
            Value::Vector(numbers) => Some(numbers.to_vec()),
            Value::Null => None,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(vectors, [None, Some(vec![1.5, 2.0])]);
    assert_eq!(rows.losses().values, 1);
    scripted.requests();

    let scripted = start();
    let source = server(&scripted.address, host());
    let strict = Scan { on_error: OnError::Error, ..scan("c", &columns) };
    let mut rows = source.open(&strict).expect("rows");
    assert!(rows.next().expect("a row"));
    let error = rows.value(1).expect_err("it is no vector");
    assert!(matches!(&error, Error::Value(bad) if bad.problem == Problem::NotFinite), "{error:?}");
    scripted.requests();
}

#[test]
fn what_a_server_does_wrong_is_an_error_that_tells_no_secret() {
    let refusals = [
        ("401 Unauthorized", "no"),
        ("302 Found", ""),
        ("200 OK", "[{"),
        ("200 OK", "{\"not\": \"a list\"}"),
        ("400 Bad Request", "what"),
    ];
    for (status, body) in refusals {
        let scripted = Scripted::start(vec![answer(status, body)]);
        let error = server(&scripted.address, host()).open(&scan("c", &COLUMNS)).err().expect("an error");
        let detail = match &error {
            Error::Answer { detail, .. } | Error::Refused { detail, .. } => detail.clone(),
            other => panic!("{other}"),
        };
        assert!(!format!("{error} {detail}").contains("secret"), "{error}: {detail}");
        scripted.requests();
    }
    let malformed = [
        "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n[]",
        "SSH-2.0-OpenSSH\r\n",
    ];
    for text in malformed {
        let scripted = Scripted::start(vec![text.as_bytes().to_vec()]);
        let error = server(&scripted.address, host()).open(&scan("c", &COLUMNS)).err().expect("an error");
        // Cut where its end was not told, it is asked for again, of nobody.
        let told = matches!(error, Error::Answer { .. } | Error::LongAnswer { .. } | Error::Server { .. });
        assert!(told, "{text}: {error}");
        scripted.requests();
    }
}

#[test]
fn what_a_refusal_repeats_of_what_authenticates_is_not_told() {
    let long = "0123456789abcdef".repeat(1000);
    let basic = format!("Basic {}", base64(b"me:open: sesame"));
    for (header, said) in [
        (format!("Bearer {long}"), format!("not this token: {long}")),
        (basic.clone(), format!("not this header: {basic}")),
        (basic.clone(), "not me:open: sesame".to_owned()),
        (basic.clone(), "not password open: sesame of user me".to_owned()),
    ] {
        for body in [said.clone(), serde_json::json!({"error": "AuthError", "message": said}).to_string()] {
            let scripted = Scripted::start(vec![answer("401 Unauthorized", &body)]);
            let mut source = server(&scripted.address, host());
            source.options.credentials = vec![("Authorization".to_owned(), header.clone())];
            let error = source.open(&scan("c", &COLUMNS)).err().expect("an error");
            let Error::Refused { detail, .. } = &error else { panic!("{error}") };
            assert!(detail.contains("not ") && detail.contains("***"), "{detail}");
            let secrets = ["sesame", "0123456789", &base64(b"me:open: sesame")];
            assert!(secrets.into_iter().all(|secret| !detail.contains(secret)), "{detail}");
            scripted.requests();
        }
    }
}

#[test]
fn a_list_that_never_ends_is_given_up() {
    let page = format!("[{}]", [COLLECTIONS.trim_matches(['[', ']']); 3].join(","));
    let scripted = Scripted::start(vec![answer("200 OK", &page), answer("200 OK", &page)]);
    let error = server(&scripted.address, host()).open(&scan("absent", &COLUMNS)).err().expect("an error");
    assert!(matches!(error, Error::NoTable { .. }), "{error}");
    scripted.requests();
}

#[test]
fn waiting_ends_when_it_is_interrupted_or_takes_too_long() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("its address"));
    let interrupted = Host { interrupted: || true, ..host() };
    let error = server(&address, interrupted).open(&scan("c", &COLUMNS)).err().expect("an error");
    assert!(matches!(error, Error::Interrupted), "{error}");
    let mut impatient = server(&address, host());
    impatient.options.timeout = Duration::from_millis(20);
    let error = impatient.open(&scan("c", &COLUMNS)).err().expect("an error");
    let Error::Server { detail, .. } = &error else { panic!("{error}") };
    assert!(detail.contains("did not answer within 20 ms"), "{detail}");
}

/// A server that encrypts by a certificate of its own; tells what it received.
fn encrypting() -> (String, JoinHandle<Vec<u8>>) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key.into())
        .expect("a certificate and its key");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("https://localhost:{}", listener.local_addr().expect("its address").port());
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let connection = ServerConnection::new(Arc::new(config)).expect("a connection");
        let mut received = Vec::new();
        // The client is expected to turn away.
        let _ = StreamOwned::new(connection, stream).read_to_end(&mut received);
        received
    });
    (address, thread)
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_told() {
    let (address, thread) = encrypting();
    let error = server(&address, host()).open(&scan("c", &COLUMNS)).err().expect("an error");
    let Error::Server { detail, .. } = &error else { panic!("{error}") };
    assert!(detail.contains("invalid peer certificate"), "{detail}");
    assert!(thread.join().expect("the server ends").is_empty());
}
