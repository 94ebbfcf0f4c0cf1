//! A hundred megabytes of text are cut or refused, in bounded memory, and may be cancelled.

use postgres::Client;
use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::process;
use vector_embed_e2e::sql::{assert_error, embed, execute, refused, stat_engine, with_timeout};
use vector_embed_e2e::wait;

/// What the engine may take more than before, in kilobytes: not a multiple of such texts.
const BOUND: i64 = 400 << 10;

/// Runs a query that tells whether something is so.
fn holds(client: &mut Client, query: &str) {
    let row = client.query_one(query, &[]).unwrap_or_else(|error| panic!("{query}: {error:?}"));
    assert!(row.get::<_, bool>(0), "{query}");
}

#[test]
fn a_hundred_megabytes_are_embedded_by_what_the_model_takes_of_them() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    embed(&mut client, "the model is loaded").expect("a vector");
    let before = process::memory(cluster.engine(), "VmRSS");
    execute(&mut client, "SET client_min_messages = error");
    execute(
        &mut client,
        "CREATE TABLE notes (id int PRIMARY KEY, body text, embedding vector(384));
         CREATE TABLE more (id int PRIMARY KEY, body jsonb, embedding vector(384));
         SELECT vector_embed.attach('notes', 'embedding', '{body}');
         SELECT vector_embed.attach('more', 'embedding', '{body}', timing => 'statement');",
    );
    let words = "repeat('rain falls ', 9500000)";
    let expected = "embed(repeat('rain falls ', 300))";
    // One by one, so that the server holds one of them at a time.
    holds(&mut client, &format!("SELECT embed({words}) = {expected}"));
    holds(&mut client, &format!("SELECT (embed(ARRAY['a', {words}, NULL]))[2] = {expected}"));
    holds(&mut client, "SELECT embed(repeat('雨', 35000000)) = embed(repeat('雨', 300))");
    execute(&mut client, &format!("INSERT INTO notes VALUES (1, {words})"));
    holds(&mut client, &format!("SELECT embedding = {expected} FROM notes"));
    execute(&mut client, "UPDATE notes SET embedding = NULL; UPDATE notes SET embedding = embed(body)");
    holds(&mut client, &format!("SELECT embedding = {expected} FROM notes"));
    execute(&mut client, &format!("INSERT INTO more VALUES (1, jsonb_build_array({words}))"));
    holds(&mut client, "SELECT embedding = embed('[\"' || repeat('rain falls ', 300)) FROM more");
    // A word without a blank is one unknown token, up to its end.
    holds(&mut client, "SELECT embed(repeat('x', 60000000) || ' rain') = embed(repeat('q', 101) || ' rain')");
    let peak = process::memory(cluster.engine(), "VmHWM");
    assert!(peak < before + BOUND, "{before} kB before, {peak} kB at most");
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let cluster = Shared::get();
    let mut client = cluster.connect();
    execute(&mut client, "SET vector_embed.overlong_text = 'error'");
    let error = refused(client.batch_execute("SELECT embed(repeat('rain falls ', 9500000))"));
    assert_error(&error, "22001");
    execute(&mut client, "RESET vector_embed.overlong_text");
    // Nothing that the model sees, and no end of it.
    let error = refused(client.batch_execute("SELECT embed(repeat(E'\\x01', 60000000))"));
    assert_error(&error, "54000");
    for call in ["embed(text)", "(embed(ARRAY[text]))[1]", "vector_embed.token_count(text)"] {
        let query = format!("SELECT {call} FROM (SELECT repeat('x', 104857600) AS text OFFSET 0) AS texts");
        let error = refused(client.batch_execute(&query));
        assert_eq!(error.code().code(), "53400", "{error:?}");
        assert!(!error.detail().unwrap_or_default().contains("element"), "{error:?}");
    }
    embed(&mut client, "the next one").expect("a vector");
}

#[test]
fn counting_and_cutting_a_long_text_may_be_cancelled() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    embed(&mut client, "the model is loaded").expect("a vector");
    execute(&mut client, "CREATE TABLE texts AS SELECT repeat('rain falls ', 6000000) AS text");
    for call in ["vector_embed.token_count(text)", "(SELECT count(*) FROM vector_embed.chunk(text))"] {
        let before = stat_engine(&mut client).expect("an engine").cancelled;
        // Some time passes until the engine has the text and begins.
        let mut timeout = 250;
        wait::until("the engine has dropped it", || {
            timeout *= 2;
            let statement = format!("SELECT {call} FROM texts");
            let outcome = with_timeout(&mut client, timeout, |client| client.batch_execute(&statement));
            assert_eq!(refused(outcome).code().code(), "57014");
            embed(&mut client, "others are served").expect("a vector");
            stat_engine(&mut client).expect("an engine").cancelled > before
        });
    }
}
