//! Texts are in no log, however much is logged, whatever goes wrong.

use postgres::Client;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::markers::POISON;
use vector_embed_e2e::sql::{embed, execute, refused, token_count};
use vector_embed_e2e::wire::Wire;
use vector_embed_protocol::BUILD_ID;

use crate::faulty;

/// A word that is in every text here and in nothing else.
const MARKER: &str = "zanzibarquux";

#[test]
fn no_text_gets_into_a_log() {
    let cluster = Cluster::with()
        .installation(&faulty::installation())
        .setting("log_min_messages", "debug5")
        // PostgreSQL itself logs statements and parameters where it is told to.
        .setting("log_min_error_statement", "panic")
        .setting("log_statement", "none")
        .setting("log_parameter_max_length", "0")
        .setting("log_parameter_max_length_on_error", "0")
        .start();
    let mut client = cluster.connect();
    execute(
        &mut client,
        "CREATE TABLE notes (id int PRIMARY KEY, body text, embedding vector(384));
         SELECT vector_embed.attach('notes', 'embedding', '{body}', timing => 'statement')",
    );
    let text = format!("the {MARKER} sleeps");
    embed(&mut client, &text).expect("a vector");
    token_count(&mut client, &text).expect("a number");
    client.execute("INSERT INTO notes VALUES (1, $1)", &[&text]).expect("a row");
    client.query("SELECT * FROM vector_embed.chunk($1)", &[&text]).expect("chunks");
    let fails = |client: &mut Client, query: &str, text: &str, state: &str| {
        assert_eq!(refused(client.query(query, &[&text])).code().code(), state, "{query}");
    };
    fails(&mut client, "SELECT embed($1, 'no-such-model')", &text, "42704");
    let deadly = |number: u32| format!("{MARKER} {} {number}", POISON.word);
    fails(&mut client, "SELECT embed($1)", &deadly(1), "58000");
    fails(&mut client, "SELECT embed($1)", &deadly(1), "58000");
    fails(&mut client, "SELECT embed(ARRAY['x', $1])", &deadly(2), "58000");
    fails(&mut client, "INSERT INTO notes VALUES (2, $1)", &deadly(3), "58000");
    fails(&mut client, "SELECT vector_embed.chunk($1, max_tokens => 1)", &text, "22023");
    fails(&mut client, "SELECT embed($1 || repeat(E'\\x01', 60000000))", &text, "54000");
    execute(&mut client, "SET vector_embed.overlong_text = 'error'");
    fails(&mut client, "SELECT embed($1)", &format!("{MARKER} ").repeat(400), "22001");
    // A client that breaks the protocol does not get its text there either.
    let mut wire = Wire::connect(&cluster);
    wire.greet(BUILD_ID);
    wire.send(&[40, 0, 0, 0, 2]);
    wire.send(&MARKER.repeat(4).as_bytes()[..40]);
    assert!(wire.frame().is_some() && wire.is_closed());

    let log = cluster.log();
    assert!(log.contains("DEBUG:"), "much is logged");
    let found: Vec<&str> = log.lines().filter(|line| line.contains(MARKER)).collect();
    assert!(found.is_empty(), "{found:?}");
    for entry in std::fs::read_dir(cluster.runtime_directory()).expect("the directory").flatten() {
        let content = std::fs::read(entry.path()).unwrap_or_default();
        let found = content.windows(MARKER.len()).any(|part| part == MARKER.as_bytes());
        assert!(!found, "{}", entry.path().display());
    }
}
