//! Arguments that are refused, and texts that are too long.

use std::sync::{Arc, Mutex};

use postgres::NoTls;
use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::sql::{assert_error, embed, embed_by, execute, refused};

#[test]
fn names_that_cannot_be_a_model_s_are_refused() {
    let cluster = Shared::get();
    let mut client = cluster.connect();
    let too_long = "x".repeat(64);
    for name in ["", ".", "../x", "a/b", "/etc", "a b", ".hidden", "-x", "ä", &too_long] {
        assert_error(&refused(embed_by(&mut client, "cat", name)), "22023");
        client
            .execute("SELECT set_config('vector_embed.default_model', $1, false)", &[&name])
            .expect("the setting takes any text");
        assert_error(&refused(embed(&mut client, "cat")), "22023");
        execute(&mut client, "RESET vector_embed.default_model");
    }
}

/// A text of more tokens than any model here takes.
fn overlong() -> String {
    "word ".repeat(300)
}

#[test]
fn an_overlong_text_is_an_error_where_asked_for() {
    let cluster = Shared::get();
    let mut client = cluster.connect();
    execute(&mut client, "SET vector_embed.overlong_text = 'error'");
    let error = refused(embed(&mut client, &overlong()));
    assert_error(&error, "22001");
    assert!(error.detail().is_some_and(|detail| detail.contains("256 tokens")), "{error:?}");
    embed(&mut client, "short enough").expect("a vector");
}

#[test]
fn truncation_is_warned_of_once_in_a_statement() {
    // With a cache, in which later statements find the texts of earlier ones.
    let cluster = Cluster::new();
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let mut config = cluster.config();
    let sink = Arc::clone(&warnings);
    config.notice_callback(move |notice| sink.lock().expect("no panic").push(notice));
    let mut client = config.connect(NoTls).expect("a session");
    let mut warned = |statement: &str| {
        execute(&mut client, statement);
        warnings.lock().expect("no panic").drain(..).collect::<Vec<_>>()
    };

    let texts = format!("(SELECT '{}' || n AS text FROM generate_series(1, 4) n) AS texts", overlong());
    for statement in [
        format!("SELECT embed(text) FROM {texts}"),
        format!("SELECT embed(array_agg(text)) FROM {texts}"),
        format!("SELECT embed(text), embed(ARRAY[text, text]) FROM {texts}"),
    ] {
        let warnings = warned(&statement);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0].severity(), "WARNING");
        assert!(warnings[0].message().contains("truncated"), "{warnings:?}");
    }
    assert!(warned("SELECT embed('short enough')").is_empty());
    let unwarned = "SET vector_embed.overlong_text = 'error'; SELECT embed('short enough')";
    assert!(warned(unwarned).is_empty());
}
