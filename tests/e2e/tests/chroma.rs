//! Chroma directories and servers as foreign tables.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use postgres::error::DbError;
use postgres::{Client, NoTls};
use serde_json::Value;
use vector_embed_e2e::chroma::{Store, VERSIONS};
use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::sql::{assert_error, backend, execute, refused};
use vector_embed_e2e::stopper::Canceller;
use vector_embed_e2e::wait;

/// A session in a new database with the extension, that keeps what it is warned of.
fn database(cluster: &Cluster, name: &str) -> (Client, Arc<Mutex<Vec<DbError>>>) {
    drop(cluster.database(name));
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&warnings);
    let mut config = cluster.config();
    config.dbname(name).notice_callback(move |notice| sink.lock().expect("no panic").push(notice));
    (config.connect(NoTls).expect("a session"), warnings)
}

fn import(client: &mut Client, store: &Store, schema: &str) {
    execute(
        client,
        &format!(
            "CREATE SERVER {schema} FOREIGN DATA WRAPPER vector_embed_chroma OPTIONS (path '{}');
             CREATE SCHEMA {schema};
             IMPORT FOREIGN SCHEMA default_database FROM SERVER {schema} INTO {schema}",
            store.path.display()
        ),
    );
}

/// Rows that are not as chromadb says, vectors compared by their distance.
const DIFFERENCES: &str = "
    WITH expected AS (
        SELECT key AS id, value->>'document' AS document, nullif(value->'metadata', 'null') AS metadata,
               (value->'vector')::text::vector AS embedding
        FROM jsonb_each($1::text::jsonb))
    SELECT count(*) FROM expected e FULL JOIN TABLE_NAME t USING (id)
    WHERE (e.document, e.metadata) IS DISTINCT FROM (t.document, t.metadata)
       OR (e.embedding <-> t.embedding < 1e-5) IS NOT TRUE";

fn check(client: &mut Client, schema: &str, collection: &Value) {
    let name = collection["name"].as_str().expect("a name");
    let table = format!("{schema}.{name}");
    let query = DIFFERENCES.replace("TABLE_NAME", &table);
    let rows = collection["rows"].to_string();
    let differences: i64 = client.query_one(&query, &[&rows]).expect("the table can be read").get(0);
    assert_eq!(differences, 0, "rows of {table}");

    let operator = match collection["space"].as_str() {
        Some("cosine") => "<=>",
        Some("ip") => "<#>",
        _ => "<->",
    };
    let strings = |value: &Value| -> Vec<String> {
        let list = value.as_array().expect("a list").iter();
        list.map(|id| id.as_str().expect("an id").to_owned()).collect()
    };
    let findable = strings(&collection["findable"]);
    let rankings = collection["rankings"].as_array().expect("rankings");
    assert_eq!(rankings.len(), 10);
    for ranking in rankings {
        let rows = client
            .query(
                &format!(
                    "SELECT id FROM {table} WHERE id = ANY ($1)
                     ORDER BY embedding {operator} $2::text::vector LIMIT 10"
                ),
                &[&findable, &ranking["query"].to_string()],
            )
            .expect("the table can be searched");
        let nearest: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(nearest, strings(&ranking["nearest"]), "the nearest in {table}");
    }
}

#[test]
fn each_version_is_read_whole_and_ranked_as_chroma_ranks() {
    let cluster = Shared::get();
    let (mut client, warnings) = database(&cluster, "chroma_versions");
    for (number, version) in VERSIONS.iter().chain(&["upgraded"]).enumerate() {
        let store = Store::of(version, "synced");
        let schema = format!("synced{number}");
        import(&mut client, &store, &schema);
        for collection in &store.collections {
            check(&mut client, &schema, collection);
        }
    }
    assert!(warnings.lock().expect("no panic").is_empty());
}

#[test]
fn values_of_every_kind_arrive_as_they_are() {
    let cluster = Shared::get();
    let (mut client, _) = database(&cluster, "chroma_values");
    for (number, version) in VERSIONS.iter().enumerate() {
        let store = Store::of(version, "small");
        let schema = format!("small{number}");
        import(&mut client, &store, &schema);
        for name in ["types", "changes"] {
            let here = |collection: &&Value| {
                collection["name"] == name
                    && collection["tenant"] == "default_tenant"
                    && collection["database"] == "default_database"
            };
            let collection = store.collections.iter().find(here).expect("there is such a collection");
            check(&mut client, &schema, collection);
        }
        let row = client
            .query_one(
                &format!(
                    "SELECT count(*), count(*) FILTER (WHERE name = 'empty' AND dimension IS NULL AND rows = 0)
                     FROM {schema}.collections"
                ),
                &[],
            )
            .expect("the list can be read");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (5, 1));
        let error = refused(client.query(&format!("SELECT document FROM {schema}.nul"), &[]));
        assert!(assert_error(&error, "HV024").contains("invalid_text"));
        execute(&mut client, &format!("ALTER SERVER {schema} OPTIONS (ADD invalid_text 'strip')"));
        let row = client
            .query_one(&format!("SELECT document, metadata->>'text' FROM {schema}.nul WHERE id = 'nul'"), &[])
            .expect("the table can be read");
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("beforeafter", "before"));
    }
}

#[test]
fn other_databases_and_tenants_are_schemas_and_servers() {
    let cluster = Shared::get();
    let (mut client, _) = database(&cluster, "chroma_databases");
    let store = Store::of("1.5.9", "small");
    import(&mut client, &store, "first");
    execute(
        &mut client,
        &format!(
            "CREATE SCHEMA archive;
             IMPORT FOREIGN SCHEMA archive LIMIT TO (types) FROM SERVER first INTO archive;
             CREATE SERVER second FOREIGN DATA WRAPPER vector_embed_chroma
                 OPTIONS (path '{}', tenant 'second');
             CREATE SCHEMA second;
             IMPORT FOREIGN SCHEMA default_database EXCEPT (collections) FROM SERVER second INTO second",
            store.path.display()
        ),
    );
    let row = client
        .query_one(
            "SELECT (SELECT min(document) FROM archive.types), (SELECT min(document) FROM second.types)",
            &[],
        )
        .expect("the tables can be read");
    assert_eq!(row.get::<_, &str>(0), "default_tenant archive 0");
    assert_eq!(row.get::<_, &str>(1), "second default_database 0");
    let error = refused(client.batch_execute("IMPORT FOREIGN SCHEMA absent FROM SERVER second INTO second"));
    assert_error(&error, "HV00Q");
}

#[test]
fn a_damaged_directory_gives_each_document_and_says_once_what_is_lost() {
    let cluster = Shared::get();
    let (mut client, warnings) = database(&cluster, "chroma_damage");
    let store = Store::of("1.5.9", "synced");
    fs::write(store.index().join("header.bin"), [0; 100]).expect("it can be written");
    import(&mut client, &store, "damaged");
    let expected = store.collections.iter().find(|found| found["name"] == "segments").expect("there is one");
    let expected = expected["rows"].as_object().expect("rows").len() as i64;

    let row = client
        .query_one("SELECT count(document), count(embedding) FROM damaged.segments", &[])
        .expect("the table can be read");
    let (documents, vectors) = (row.get::<_, i64>(0), row.get::<_, i64>(1));
    assert_eq!(documents, expected);
    assert!((1..40).contains(&vectors), "{vectors} vectors");
    let warned = std::mem::take(&mut *warnings.lock().expect("no panic"));
    assert_eq!(warned.len(), 1, "{warned:?}");
    let lost = expected - vectors;
    assert_eq!(warned[0].message(), format!("table \"segments\": {lost} values were read as NULL"));
    assert!(warned[0].detail().is_some_and(|detail| detail.contains("header.bin")), "{warned:?}");

    // Nothing is lost where no vector is asked for, and other collections are whole.
    execute(
        &mut client,
        "SELECT count(document) FROM damaged.segments; SELECT count(embedding) FROM damaged.euclid",
    );
    assert!(warnings.lock().expect("no panic").is_empty());

    execute(&mut client, "ALTER SERVER damaged OPTIONS (ADD on_error 'error')");
    let error = refused(client.query("SELECT embedding FROM damaged.segments", &[]));
    assert!(assert_error(&error, "HV00M").contains("embed(document)"));
    // Who reads a view learns no id that it keeps back.
    execute(
        &mut client,
        "CREATE ROLE chroma_damage_reader; GRANT USAGE ON SCHEMA damaged TO chroma_damage_reader;
         CREATE VIEW damaged.some AS SELECT embedding FROM damaged.segments WHERE document = 'nothing';
         GRANT SELECT ON damaged.some TO chroma_damage_reader; SET ROLE chroma_damage_reader",
    );
    let error = refused(client.query("SELECT * FROM damaged.some", &[]));
    assert_eq!(error.code().code(), "HV024", "{error:?}");
    assert!(!format!("{error:?}").contains("segments-0"), "{error:?}");
}

#[test]
fn an_index_that_may_not_be_read_is_an_error_and_not_taken_for_damage() {
    let cluster = Shared::get();
    let (mut client, warnings) = database(&cluster, "chroma_denied");
    let store = Store::of("1.5.9", "synced");
    import(&mut client, &store, "denied");
    let header = store.index().join("header.bin");
    for (path, mode) in [(header, 0o644), (store.index(), 0o755)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("its permissions can be set");
        let error = refused(client.query("SELECT embedding FROM denied.segments", &[]));
        assert_eq!(error.code().code(), "HV00N", "{error:?}");
        assert_eq!(error.detail(), Some("The server's user may not read it."));
        execute(&mut client, "SELECT count(document) FROM denied.segments");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its permissions can be set");
    }
    execute(&mut client, "SELECT count(embedding) FROM denied.segments");
    assert!(warnings.lock().expect("no panic").is_empty());
}

#[test]
fn explain_tells_whether_vectors_are_read() {
    let cluster = Shared::get();
    let (mut client, _) = database(&cluster, "chroma_explain");
    import(&mut client, &Store::of("0.6.3", "synced"), "synced");
    let mut explain = |query: &str| -> String {
        let rows = client.query(&format!("EXPLAIN (COSTS OFF) {query}"), &[]).expect("a plan");
        rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
    };
    let plan = explain("SELECT document FROM synced.segments WHERE id = 'x' LIMIT 2");
    let query =
        "Chroma Query: id, document of collection \"segments\" where id = $1 limit 2, vectors not read";
    assert!(plan.contains(query), "{plan}");
    let plan = explain("SELECT embedding FROM synced.segments WHERE document LIKE 'a%' LIMIT 2");
    let query = "Chroma Query: document, embedding of collection \"segments\", vectors read";
    assert!(plan.contains(query), "{plan}");
}

#[test]
fn options_are_checked_against_whoever_sets_them() {
    let cluster = Shared::get();
    let (mut client, _) = database(&cluster, "chroma_options");
    let store = Store::of("1.5.9", "small");
    import(&mut client, &store, "small");
    execute(
        &mut client,
        "CREATE ROLE chroma_user LOGIN;
         GRANT USAGE ON FOREIGN DATA WRAPPER vector_embed_chroma TO chroma_user;
         GRANT USAGE ON SCHEMA small TO chroma_user; GRANT SELECT ON small.types TO chroma_user;
         SET ROLE chroma_user",
    );
    let row = client.query_one("SELECT count(*) FROM small.types", &[]).expect("a granted table can be read");
    assert_eq!(row.get::<_, i64>(0), 10);
    let create = "CREATE SERVER mine FOREIGN DATA WRAPPER vector_embed_chroma OPTIONS";
    for options in ["(path '/')", "(url 'http://127.0.0.1:1')"] {
        let error = refused(client.batch_execute(&format!("{create} {options}")));
        assert_eq!(error.code().code(), "42501", "{error:?}");
    }
    execute(
        &mut client,
        "RESET ROLE; GRANT pg_read_server_files TO chroma_user; SET ROLE chroma_user;
         CREATE SERVER mine FOREIGN DATA WRAPPER vector_embed_chroma OPTIONS (path '/nowhere')",
    );
    let alter = "ALTER SERVER mine OPTIONS (DROP path, ADD url 'http://127.0.0.1:1')";
    assert_eq!(refused(client.batch_execute(alter)).code().code(), "42501");
    let import = "IMPORT FOREIGN SCHEMA default_database FROM SERVER mine INTO pg_temp";
    assert_eq!(refused(client.batch_execute(import)).code().code(), "HV00N");
    execute(&mut client, "RESET ROLE; REVOKE pg_read_server_files FROM chroma_user; SET ROLE chroma_user");
    let alter = "ALTER SERVER mine OPTIONS (SET path '/etc')";
    assert_eq!(refused(client.batch_execute(alter)).code().code(), "42501");
    execute(&mut client, "RESET ROLE");

    for (options, state) in [
        ("(path 'relative')", "HV024"),
        ("(path '/x', url 'http://127.0.0.1:1')", "HV00D"),
        ("(url 'ftp://127.0.0.1')", "HV024"),
        ("(url 'http://user:secret@127.0.0.1')", "HV024"),
        ("(tenant 'x')", "HV00J"),
        ("(path '/x', timeout '0')", "HV024"),
        ("(path '/x', token 'secret')", "HV00D"),
        ("(path '/x', token_header 'a: b')", "HV024"),
        ("(path '/x', on_error 'maybe')", "HV024"),
    ] {
        let error = refused(client.batch_execute(
            &create.replace("mine", "yours").replace("OPTIONS", &format!("OPTIONS {options}")),
        ));
        assert_eq!(error.code().code(), state, "{options}: {error:?}");
        assert!(!format!("{error:?}").contains("secret") || options.contains("token"), "{error:?}");
    }
}

/// A server on this machine that answers each request by its path, until the test ends.
fn answering(answer: impl Fn(&str, &str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            serve(stream, &answer);
        }
    });
    address
}

fn serve(mut stream: TcpStream, answer: &impl Fn(&str, &str) -> String) {
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor is free"));
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|bytes| bytes > 0) {
        if !head.ends_with("\r\n\r\n") {
            continue;
        }
        let lower = head.to_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let text = answer(&head, &String::from_utf8_lossy(&body));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        head.clear();
    }
}

#[test]
fn a_server_is_asked_with_the_credentials_of_a_user_mapping() {
    let cluster = Shared::get();
    let (mut client, _) = database(&cluster, "chroma_server");
    let heads = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heads);
    let address = answering(move |head, body| {
        sink.lock().expect("no panic").push(head.to_owned());
        let path = head.split(' ').nth(1).unwrap_or_default();
        let first = path.contains("offset=0") || body.contains("\"offset\":0");
        match path.split('?').next().unwrap_or_default().rsplit('/').next() {
            Some("collections") if first => {
                r#"[{"id": "0b0f9c0e-7f4e-4f5e-8a6c-2f1d3c4b5a69", "name": "notes", "dimension": 2}]"#
                    .to_owned()
            }
            Some("collections") => "[]".to_owned(),
            Some("count") => "2".to_owned(),
            Some("get") if first => r#"{"ids": ["a", "b"], "documents": ["one", null],
                "metadatas": [{"n": 1}, null], "uris": null, "embeddings": [[1, 2], [3, 4]]}"#
                .to_owned(),
            Some("get") => r#"{"ids": []}"#.to_owned(),
            _ => "{}".to_owned(),
        }
    });
    execute(
        &mut client,
        &format!(
            "CREATE SERVER remote FOREIGN DATA WRAPPER vector_embed_chroma OPTIONS (url '{address}');
             CREATE USER MAPPING FOR postgres SERVER remote OPTIONS (token 'abc');
             CREATE SCHEMA remote; IMPORT FOREIGN SCHEMA main FROM SERVER remote INTO remote"
        ),
    );
    let rows = client
        .query("SELECT id, document, metadata::text, embedding::real[] FROM remote.notes ORDER BY id", &[])
        .expect("the table can be read");
    let row = |number: usize| {
        let row = &rows[number];
        let (id, document, metadata): (&str, Option<&str>, Option<&str>) =
            (row.get(0), row.get(1), row.get(2));
        (id.to_owned(), document.map(str::to_owned), metadata.map(str::to_owned), row.get::<_, Vec<f32>>(3))
    };
    assert_eq!(rows.len(), 2);
    assert_eq!(
        row(0),
        ("a".to_owned(), Some("one".to_owned()), Some("{\"n\": 1}".to_owned()), vec![1.0, 2.0])
    );
    assert_eq!(row(1), ("b".to_owned(), None, None, vec![3.0, 4.0]));
    let heads = std::mem::take(&mut *heads.lock().expect("no panic"));
    assert!(
        heads.iter().all(|head| head.to_lowercase().contains("\r\nauthorization: bearer abc\r\n")),
        "{heads:?}"
    );
    assert!(heads.iter().all(|head| head.contains("/tenants/default_tenant/databases/main")), "{heads:?}");
}

#[test]
fn waiting_for_a_server_can_be_cancelled() {
    let cluster = Shared::get();
    let (mut client, _) = database(&cluster, "chroma_cancel");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its address");
    execute(
        &mut client,
        &format!(
            "CREATE SERVER silent FOREIGN DATA WRAPPER vector_embed_chroma OPTIONS (url 'http://{address}')"
        ),
    );
    let pid = backend(&mut client);
    silent.set_nonblocking(true).expect("a listener may look without waiting");
    std::thread::scope(|scope| {
        let _canceller = Canceller::of(&mut client);
        let call =
            scope.spawn(|| client.batch_execute("IMPORT FOREIGN SCHEMA main FROM SERVER silent INTO public"));
        // It has connected and waits for an answer.
        let (stream, _) = wait::found("a client has connected", || silent.accept().ok());
        cluster
            .connect()
            .query_one("SELECT pg_cancel_backend($1)", &[&pid])
            .expect("the function can be called");
        let result = call.join().expect("the session's thread ends");
        assert_eq!(refused(result).code().code(), "57014");
        drop(stream);
    });
    // The session goes on.
    assert_eq!(backend(&mut client), pid);
}
