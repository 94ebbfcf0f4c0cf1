//! Long documents: cutting them is cancelled at once and holds up nobody, and chunk tables are true whoever writes.

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::notes::contents;
use vector_embed_e2e::sql::{backend, embed, execute, refused, stat_engine};
use vector_embed_e2e::wait;

/// A text of ten megabytes in table `long`, which takes seconds to cut.
const LONG: &str = "CREATE TABLE long AS SELECT string_agg('This is line ' || n || ' of a long text, which tells nothing.', E'\\n') AS body
    FROM generate_series(1, 190000) AS n";

const CUT: &str = "SELECT count(*) FROM long, vector_embed.chunk(body)";

/// Documents with chunks of at most 16 tokens.
const DOCUMENTS: &str = "CREATE TABLE documents (id integer PRIMARY KEY, body text);
    SELECT vector_embed.attach_chunks('documents', 'body', 'document_chunks', max_tokens => 16)";

/// What a chunk table lacks, and what it should not have.
const DIFFERENCES: &str = "(SELECT * FROM
    (SELECT d.id, c.* FROM documents AS d, vector_embed.chunk(d.body, max_tokens => 16) AS c) AS wanted
    FULL JOIN (SELECT document_id AS id, chunk_index, content, start_char, char_count, token_count, embedding
               FROM document_chunks) AS kept
    USING (id, chunk_index, content, start_char, char_count, token_count)
    WHERE wanted IS NULL OR kept IS NULL OR NOT (kept.embedding <=> embed(content)) < 1e-6)";

fn state(result: Result<(), postgres::Error>) -> String {
    refused(result).code().code().to_owned()
}

fn is_busy(observer: &mut Client, pid: i32) -> bool {
    let sql = "SELECT coalesce(wait_event_type = 'Extension', false) FROM pg_stat_activity WHERE pid = $1";
    observer.query_opt(sql, &[&pid]).expect("the view can be read").is_some_and(|row| row.get(0))
}

#[test]
fn cutting_ten_megabytes_is_cancelled_at_once_and_holds_up_nobody() {
    let cluster = Cluster::with().uncached().alone().start();
    let (mut client, mut observer) = (cluster.connect(), cluster.connect());
    execute(&mut client, LONG);
    embed(&mut client, "the model is loaded").expect("a vector");
    for _ in 0..3 {
        let pid = backend(&mut client);
        thread::scope(|scope| {
            let call = scope.spawn(|| (client.batch_execute(CUT), Instant::now()));
            wait::until("the text is being cut", || is_busy(&mut observer, pid));
            // Short texts and longer ones of others, which need the tokenizer, too.
            let others = Instant::now();
            embed(&mut observer, "somebody else").expect("a vector");
            embed(&mut observer, &"somebody else, at length ".repeat(200)).expect("a vector");
            let others = others.elapsed();
            assert!(is_busy(&mut observer, pid), "it is still being cut");
            let begin = Instant::now();
            observer.query_one("SELECT pg_cancel_backend($1)", &[&pid]).expect("a cancel");
            let (result, end) = call.join().expect("the session's thread ends");
            assert_eq!(state(result), "57014");
            assert!(end - begin < Duration::from_secs(1), "the call ended after {:?}", end - begin);
            assert!(others < Duration::from_secs(2), "others waited {others:?}");
        });
    }
    let engine = stat_engine(&mut observer).expect("the engine runs");
    assert_eq!(engine.restarts, 0);
    let count: i64 = client.query_one(CUT, &[]).expect("the text is cut").get(0);
    assert!(count > 5000, "{count} chunks");
}

#[test]
fn a_text_is_cut_by_the_next_engine_where_one_has_ended() {
    use vector_embed_e2e::process::{self, Signal};
    let cluster = Cluster::new();
    let (mut client, mut observer) = (cluster.connect(), cluster.connect());
    execute(&mut client, LONG);
    let expected: i64 = client.query_one(CUT, &[]).expect("the text is cut").get(0);
    let pid = backend(&mut client);
    let again = thread::scope(|scope| {
        let call = scope.spawn(|| client.query_one(CUT, &[]).map(|row| row.get::<_, i64>(0)));
        wait::until("the text is being cut", || is_busy(&mut observer, pid));
        process::send(cluster.engine(), Signal::KILL);
        call.join().expect("the session's thread ends")
    });
    assert_eq!(again.expect("another engine cuts it"), expected);
}

#[test]
fn many_writers_of_few_documents_leave_a_true_chunk_table() {
    const WRITERS: usize = 6;
    const ROUNDS: usize = 25;
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    execute(&mut client, DOCUMENTS);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut client = cluster.connect();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let id = (writer * 7 + round * 3) % 4;
                    let text =
                        format!("Writer {writer} was here. It was round {round} of this test. It left.");
                    let write = match (writer + round) % 6 {
                        0 => format!("DELETE FROM documents WHERE id = {id}"),
                        1 => format!("UPDATE documents SET body = '{text}' WHERE id = {id}"),
                        2 => format!("UPDATE documents SET body = body || ' {text}' WHERE id = {id}"),
                        3 => format!("UPDATE documents SET body = NULL WHERE id = {id}"),
                        4 => format!(
                            "BEGIN; UPDATE documents SET body = '{text}' WHERE id = {id}; SAVEPOINT s;
                             UPDATE documents SET body = 'x' WHERE id = {id}; ROLLBACK TO s; COMMIT"
                        ),
                        _ => format!(
                            "INSERT INTO documents VALUES ({id}, '{text}')
                             ON CONFLICT (id) DO UPDATE SET body = excluded.body"
                        ),
                    };
                    execute(&mut client, &write);
                }
            });
        }
    });
    execute(
        &mut client,
        "INSERT INTO documents SELECT n, 'The last one.' FROM generate_series(0, 3) AS n ON CONFLICT DO NOTHING",
    );
    assert_eq!(contents(&mut client, DIFFERENCES), [""; 0]);
}

/// A database with an owner of tables and somebody else, whose names begin with the database's.
fn scene(cluster: &Cluster, name: &str) -> (Client, Client, Client) {
    let mut admin = cluster.database(name);
    execute(
        &mut admin,
        &format!(
            "CREATE ROLE {name}_owner LOGIN; CREATE ROLE {name}_user LOGIN;
             CREATE SCHEMA app AUTHORIZATION {name}_owner; CREATE SCHEMA own AUTHORIZATION {name}_user;
             GRANT USAGE ON SCHEMA app TO {name}_user;
             ALTER DATABASE {name} SET search_path = app, public"
        ),
    );
    let owner = cluster.connect_as(&format!("{name}_owner"), name);
    let user = cluster.connect_as(&format!("{name}_user"), name);
    (cluster.connect_to(name), owner, user)
}

#[test]
fn who_may_only_write_documents_has_their_chunks_kept_and_gains_nothing() {
    let cluster = Shared::get();
    let (_, mut owner, mut user) = scene(&cluster, "chunk_writing");
    execute(&mut owner, DOCUMENTS);
    execute(
        &mut owner,
        "CREATE TABLE papers (id integer PRIMARY KEY, body text);
         CREATE TABLE paper_chunks (id serial PRIMARY KEY, document_id integer, chunk_index integer, content text,
                                    embedding vector(384));
         ALTER TABLE paper_chunks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         SELECT vector_embed.attach_chunks('papers', 'body', 'paper_chunks');
         GRANT INSERT, UPDATE, DELETE, SELECT (id) ON documents, papers TO chunk_writing_user",
    );
    // Operators and functions of the user's own are not what runs.
    execute(
        &mut user,
        "CREATE FUNCTION own.wrong(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT false';
         CREATE OPERATOR own.= (FUNCTION = own.wrong, LEFTARG = integer, RIGHTARG = integer);
         CREATE TABLE own.document_chunks (document_id integer);
         SET search_path = own, app, public, pg_catalog",
    );
    for table in ["documents", "papers"] {
        execute(
            &mut user,
            &format!(
                "INSERT INTO {table} VALUES (1, 'One sentence stands here. Another sentence stands behind it.'), (2, 'Two.');
                 UPDATE {table} SET body = 'Changed.' WHERE id OPERATOR(pg_catalog.=) 2"
            ),
        );
    }
    for denied in [
        "SELECT FROM app.document_chunks",
        "INSERT INTO app.paper_chunks (content) VALUES ('x')",
        "SELECT nextval('app.paper_chunks_id_seq')",
        "SELECT vector_embed.attach_chunks('app.documents', 'body', 'own.mine')",
        "SELECT vector_embed.detach_chunks('app.documents', 'app.document_chunks')",
    ] {
        assert_eq!(state(user.batch_execute(denied)), "42501", "{denied}");
    }
    assert_eq!(contents(&mut owner, DIFFERENCES), [""; 0]);
    let mut admin = cluster.connect_to("chunk_writing");
    let rows = "(SELECT document_id, chunk_index, content FROM app.paper_chunks)";
    assert_eq!(contents(&mut admin, rows).len(), 2);
}

#[test]
fn nobody_writes_to_chunk_tables_of_others_by_triggers_of_his_own() {
    let cluster = Shared::get();
    let (mut admin, mut owner, mut user) = scene(&cluster, "chunk_attacks");
    execute(&mut owner, DOCUMENTS);
    execute(&mut owner, "INSERT INTO documents VALUES (1, 'The owner wrote this.')");
    execute(&mut owner, "GRANT SELECT ON document_chunks TO chunk_attacks_user");
    let options = r#"{"key":["document_id"],"columns":{"chunk_index":"chunk_index","content":"content","embedding":"embedding"},"format":"text"}"#;
    execute(
        &mut user,
        &format!(
            "CREATE TABLE own.documents (id integer PRIMARY KEY, body text);
             INSERT INTO own.documents VALUES (1, 'x');
             CREATE TRIGGER t AFTER TRUNCATE ON own.documents FOR EACH STATEMENT EXECUTE FUNCTION
                 vector_embed.embed_chunks('body', 'all-MiniLM-L6-v2', 'app', 'document_chunks', '{options}');
             CREATE TRIGGER i AFTER INSERT ON own.documents REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
                 EXECUTE FUNCTION vector_embed.embed_chunks('body', 'all-MiniLM-L6-v2', 'app', 'document_chunks', '{options}')"
        ),
    );
    // Neither he nor a superuser who writes his table.
    for statement in ["TRUNCATE own.documents", "INSERT INTO own.documents VALUES (2, 'Slipped in.')"] {
        assert_eq!(state(user.batch_execute(statement)), "42501", "{statement}");
        assert_eq!(state(admin.batch_execute(statement)), "42501", "{statement}");
    }
    // Nor by having his documents attached to a table that is not his.
    let attach = "SELECT vector_embed.attach_chunks('own.documents', 'body', 'app.document_chunks')";
    assert_eq!(state(user.batch_execute(attach)), "42501");
    assert_eq!(state(admin.batch_execute(attach)), "42501");
    assert_eq!(contents(&mut owner, "(SELECT content FROM app.document_chunks)").len(), 1);
}

#[test]
fn who_may_make_triggers_writes_to_chunk_tables_with_his_own_privileges() {
    let cluster = Shared::get();
    let (_, mut owner, mut user) = scene(&cluster, "chunk_makers");
    execute(&mut owner, DOCUMENTS);
    execute(
        &mut owner,
        "INSERT INTO documents VALUES (1, 'The owner wrote this.');
         CREATE TABLE entries (id integer PRIMARY KEY, body text);
         CREATE TABLE entry_chunks (
             entry_id integer, chunk_index integer, content text, embedding vector(384));
         SELECT vector_embed.attach_chunks('entries', 'body', 'entry_chunks', '{entry_id}');
         GRANT INSERT, TRUNCATE, TRIGGER ON entries TO chunk_makers_user",
    );
    let options = r#"{"key":["document_id"],"columns":{"chunk_index":"chunk_index","content":"content","embedding":"embedding"},"format":"text"}"#;
    let call = format!("embed_chunks('body', 'all-MiniLM-L6-v2', 'app', 'document_chunks', '{options}')");
    // One of his own, and in place of the owner's, whose comment stays.
    for name in ["his", "zz_vector_embed_entry_chunks_truncate"] {
        execute(
            &mut user,
            &format!(
                "CREATE OR REPLACE TRIGGER {name} AFTER TRUNCATE ON app.entries FOR EACH STATEMENT \
                 EXECUTE FUNCTION vector_embed.{call}"
            ),
        );
        assert_eq!(state(user.batch_execute("TRUNCATE app.entries")), "42501", "{name}");
        execute(&mut owner, &format!("DROP TRIGGER {name} ON entries"));
    }
    execute(
        &mut user,
        "INSERT INTO app.entries VALUES (1, 'Written by the triggers that are left.'); TRUNCATE app.entries",
    );
    assert_eq!(contents(&mut owner, "(SELECT content FROM entry_chunks)").len(), 1);
    assert_eq!(contents(&mut owner, "(SELECT content FROM document_chunks)").len(), 1);
}

#[test]
fn triggers_of_a_chunk_table_run_as_who_writes_the_document() {
    let cluster = Shared::get();
    let (_, mut owner, mut user) = scene(&cluster, "chunk_triggers");
    execute(&mut owner, DOCUMENTS);
    execute(
        &mut owner,
        "CREATE TABLE seen (who name);
         GRANT INSERT ON seen TO PUBLIC;
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO app.seen VALUES (current_user); RETURN NEW; END';
         CREATE TRIGGER see BEFORE INSERT ON document_chunks FOR EACH ROW EXECUTE FUNCTION see();
         GRANT INSERT ON documents TO chunk_triggers_user",
    );
    execute(&mut user, "INSERT INTO app.documents VALUES (1, 'Short.')");
    assert_eq!(contents(&mut owner, "(SELECT who FROM seen)"), ["(chunk_triggers_user)"]);
    // A chunk table that has become somebody else's is not written to: its triggers would be his.
    let mut admin = cluster.connect_to("chunk_triggers");
    execute(&mut admin, "ALTER TABLE app.document_chunks OWNER TO chunk_triggers_user");
    assert_eq!(state(owner.batch_execute("INSERT INTO documents VALUES (2, 'Short.')")), "42501");
}
