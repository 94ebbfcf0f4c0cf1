//! Models with bf16: an engine of their own serves them, with all that is promised of the other.

use std::path::Path;

use postgres::Client;
use vector_embed_e2e::bf16::{self, MODEL, can_be_had};
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden::{self, Golden};
use vector_embed_e2e::installation::{Installation, move_away};
use vector_embed_e2e::markers::{POISON, SLOW};
use vector_embed_e2e::process::Pid;
use vector_embed_e2e::sql::{
    assert_error, embed, embed_by, execute, refused, stat_engine, stat_model, with_timeout,
};
use vector_embed_e2e::vectors::cosine;
use vector_embed_e2e::wait;

/// What vectors with bf16 have in common with those of fp32.
const NEAR: f64 = 0.999;

fn installation() -> Installation {
    let installation = Installation::copy();
    bf16::add(&installation);
    installation
}

/// A server whose engines are faulty.
fn faulty() -> Cluster {
    let installation = installation();
    installation.install_engine(Path::new(env!("CARGO_BIN_EXE_faulty_engine")));
    Cluster::with().installation(&installation).uncached().start()
}

/// The process of an engine, if it runs.
fn engine(client: &mut Client, runtime: &str) -> Option<Pid> {
    let query = "SELECT pid FROM vector_embed.stat_engine WHERE runtime = $1";
    client.query_opt(query, &[&runtime]).expect("the view can be read").map(|row| row.get(0))
}

fn assert_near(golden: &Golden, vector: &[f32]) {
    let cosine = cosine(vector, &golden.vector);
    assert!(cosine >= NEAR && vector != golden.vector, "cosine {cosine} for {:?}", golden.text);
}

#[test]
fn an_engine_of_their_own_serves_them() {
    if !can_be_had("bf16::an_engine_of_their_own_serves_them") {
        return;
    }
    let cluster = Cluster::with().installation(&installation()).start();
    let mut client = cluster.connect();
    let [one, two] = [golden::sentences()[0], golden::sentences()[1]];
    one.assert_is(&embed(&mut client, &one.text).expect("a vector"));
    assert_eq!(engine(&mut client, "openvino"), None, "it is started when it is needed");
    assert_near(one, &embed_by(&mut client, &one.text, MODEL).expect("a vector"));
    let engines = ["onnxruntime", "openvino"].map(|runtime| engine(&mut client, runtime).expect("it runs"));
    assert_ne!(engines[0], engines[1]);

    // Many at once, by other sessions, by turns.
    for golden in golden::sentences().iter().take(20) {
        let mut client = cluster.connect();
        assert_near(golden, &embed_by(&mut client, &golden.text, MODEL).expect("a vector"));
        golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
        assert_near(golden, &embed_by(&mut client, &golden.text, MODEL).expect("a vector"));
    }
    execute(&mut client, "CREATE TABLE t (body text, vector vector(384))");
    for golden in golden::sentences() {
        client.execute("INSERT INTO t VALUES ($1, NULL)", &[&golden.text]).expect("a row");
    }
    execute(&mut client, &format!("UPDATE t SET vector = embed(body, '{MODEL}')"));
    let least: f64 = client
        .query_one("SELECT min(1 - (vector <=> embed(body))) FROM t", &[])
        .expect("vectors of both")
        .get(0);
    assert!((NEAR..0.999_999_9).contains(&least), "{least}");
    let count: i32 = client
        .query_one("SELECT vector_embed.token_count($1, $2)", &[&two.text, &MODEL])
        .expect("a count")
        .get(0);
    assert_eq!(count, two.tokens);

    let row = client
        .query_one("SELECT precision, loaded FROM vector_embed.models WHERE name = $1", &[&MODEL])
        .expect("the view shows it");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1)), ("bf16", true));
    let stat = stat_model(&mut client, MODEL).expect("one engine knows it, the other does not");
    assert!(stat.loaded && stat.texts > 0 && stat.errors == 0, "{stat:?}");
    assert_eq!(
        engines,
        ["onnxruntime", "openvino"].map(|runtime| engine(&mut client, runtime).expect("it runs"))
    );
}

#[test]
fn a_text_that_crashes_one_engine_leaves_the_other_alone() {
    if !can_be_had("bf16::a_text_that_crashes_one_engine_leaves_the_other_alone") {
        return;
    }
    let cluster = faulty();
    let mut client = cluster.connect();
    let golden = golden::sentences()[0];
    assert_near(golden, &embed_by(&mut client, &golden.text, MODEL).expect("a vector"));
    let before = ["onnxruntime", "openvino"].map(|runtime| engine(&mut client, runtime).expect("it runs"));
    let text = format!("a text of {}", POISON.word);
    assert_error(&refused(embed_by(&mut client, &text, MODEL)), "58000");
    assert_near(golden, &embed_by(&mut client, &golden.text, MODEL).expect("a vector of the next engine"));
    let after = ["onnxruntime", "openvino"].map(|runtime| engine(&mut client, runtime).expect("it runs"));
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
    // That engine refuses it now; the other has not seen it yet.
    assert_error(&refused(embed_by(&mut cluster.connect(), &text, MODEL)), "58000");
    assert_eq!(engine(&mut client, "openvino"), Some(after[1]));
    assert_error(&refused(embed(&mut client, &text)), "58000");
    wait::until("the other is another", || {
        engine(&mut client, "onnxruntime").is_some_and(|pid| pid != after[0])
    });
    assert_eq!(engine(&mut client, "openvino"), Some(after[1]));
}

#[test]
fn calls_are_cancelled() {
    if !can_be_had("bf16::calls_are_cancelled") {
        return;
    }
    let cluster = faulty();
    let mut client = cluster.connect();
    let golden = golden::sentences()[0];
    assert_near(golden, &embed_by(&mut client, &golden.text, MODEL).expect("a vector"));
    let texts: Vec<String> =
        (0..400).map(|number| format!("{} {number} {}", SLOW.word, "word ".repeat(100))).collect();
    let result = with_timeout(&mut client, 500, |client| {
        client.query_one("SELECT count(*) FROM unnest(embed($1::text[], $2))", &[&texts, &MODEL])
    });
    assert_eq!(refused(result).code().code(), "57014");
    assert_near(golden, &embed_by(&mut client, &golden.text, MODEL).expect("a vector"));
    wait::until("the rest is dropped", || {
        let query = "SELECT cancelled > 0 AND queued_texts = 0 FROM vector_embed.stat_engine WHERE runtime = 'openvino'";
        client.query_one(query, &[]).expect("the view can be read").get(0)
    });
}

#[test]
fn a_model_that_becomes_one_of_fp32_is_found_there() {
    if !can_be_had("bf16::a_model_that_becomes_one_of_fp32_is_found_there") {
        return;
    }
    let installation = installation();
    let cluster = Cluster::with().installation(&installation).start();
    let mut client = cluster.connect();
    let golden = golden::sentences()[0];
    assert_near(golden, &embed_by(&mut client, &golden.text, MODEL).expect("a vector"));
    let away = installation.exchange_model(MODEL, &installation.model(golden::MODEL));
    wait::until("the model is another", || {
        embed_by(&mut client, &golden.text, MODEL).expect("a vector")
            == embed(&mut client, &golden.text).expect("one")
    });
    away.put_back();
    wait::until("the model is what it was", || {
        embed_by(&mut client, &golden.text, MODEL).expect("a vector")
            != embed(&mut client, &golden.text).expect("one")
    });
}

#[test]
fn without_the_optional_runtime_they_are_refused_until_it_is_there() {
    if !can_be_had("bf16::without_the_optional_runtime_they_are_refused_until_it_is_there") {
        return;
    }
    let installation = installation();
    let away = move_away(&installation.openvino());
    let cluster = Cluster::with().installation(&installation).start();
    let mut client = cluster.connect();
    let golden = golden::sentences()[0];
    let hint = assert_error(&refused(embed_by(&mut client, &golden.text, MODEL)), "0A000");
    assert!(hint.contains("scripts/download openvino"), "{hint}");
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
    assert!(stat_engine(&mut client).is_some());
    away.put_back();
    assert_near(golden, &embed_by(&mut client, &golden.text, MODEL).expect("a vector"));
}
