//! An engine that dies in the middle of a batch.

use std::path::Path;
use std::thread;

use postgres::Client;
use vector_embed_e2e::bulk;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden;
use vector_embed_e2e::installation::Installation;
use vector_embed_e2e::markers::POISON;
use vector_embed_e2e::process::{self, Signal};
use vector_embed_e2e::sql::{assert_error, backend, embed, execute, refused, stat_engine};
use vector_embed_e2e::wait;

use super::{TOOLS, count, wrong};

/// A table with these texts, in this order.
fn create_docs_of(client: &mut Client, texts: &[String]) {
    execute(client, TOOLS);
    execute(client, "CREATE TABLE docs (id integer PRIMARY KEY, body text, embedding vector(384))");
    let insert = "INSERT INTO docs SELECT n, t FROM unnest($1::text[]) WITH ORDINALITY AS u (t, n)";
    client.execute(insert, &[&texts]).expect("rows");
    execute(client, "ANALYZE docs");
}

#[test]
fn an_update_survives_a_killed_engine() {
    let cluster = Cluster::with().uncached().start();
    let (mut session, mut observer) = (cluster.connect(), cluster.connect());
    create_docs_of(&mut session, &bulk::texts(300, 30));
    {
        embed(&mut session, "the model is loaded").expect("a vector");
        let engine = cluster.engine();
        let before = stat_engine(&mut observer).expect("an engine").texts;
        thread::scope(|scope| {
            let update = scope.spawn(|| execute(&mut session, "UPDATE docs SET embedding = embed(body)"));
            wait::until("the engine computes", || {
                stat_engine(&mut observer).is_some_and(|row| row.texts > before + 20)
            });
            assert!(!update.is_finished(), "the update is under way");
            process::send(engine, Signal::KILL);
            update.join().expect("the update succeeds");
        });
        assert_ne!(cluster.engine(), engine);
        assert_eq!(wrong(&mut observer), 0);
    }
}

#[test]
fn a_batch_lost_while_its_reader_was_busy_is_computed_again() {
    let cluster = Cluster::with().uncached().start();
    let (mut session, mut observer) = (cluster.connect(), cluster.connect());
    // So few texts that a batch ends with its 8,192nd row.
    let texts = bulk::texts(30, 4);
    let texts: Vec<String> = texts.into_iter().cycle().take(17_000).collect();
    create_docs_of(&mut session, &texts);
    let pause = "
        CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            -- In the first batch and in the second.
            IF NEW.id IN (500, 9000) THEN PERFORM pg_advisory_xact_lock(NEW.id); END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER pause BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION pause()";
    execute(&mut session, pause);
    embed(&mut session, "the model is loaded").expect("a vector");
    let pid = backend(&mut session);
    thread::scope(|scope| {
        let mut holder = cluster.connect();
        execute(&mut holder, "SELECT pg_advisory_lock(500), pg_advisory_lock(9000)");
        let update = scope.spawn(move || execute(&mut session, "UPDATE docs SET embedding = embed(body)"));
        for id in [500, 9000] {
            let waiting = "SELECT FROM pg_locks
                WHERE pid = $1 AND locktype = 'advisory' AND NOT granted AND objid = $2::integer::oid";
            wait::until("the reader is busy", || {
                observer.query_opt(waiting, &[&pid, &id]).expect("the view").is_some()
            });
            process::send(cluster.engine(), Signal::KILL);
            execute(&mut holder, &format!("SELECT pg_advisory_unlock({id})"));
        }
        update.join().expect("the update succeeds");
    });
    let wrong = "SELECT count(*) FROM docs JOIN
        (SELECT body, twin(body) AS twin FROM docs WHERE id <= 30 OFFSET 0) t USING (body)
        WHERE NOT same(embedding, twin)";
    assert_eq!(count(&mut observer, wrong), 0);
    assert_eq!(count(&mut observer, "SELECT count(embedding) FROM docs"), 17_000);
    assert_eq!(count(&mut observer, "SELECT restarts FROM vector_embed.stat_engine"), 2);
}

#[test]
fn a_text_that_crashes_the_engine_is_named_by_its_row_and_harms_nobody_else() {
    const ROW: usize = 1700;
    let installation = Installation::copy();
    installation.install_engine(Path::new(env!("CARGO_BIN_EXE_faulty_engine")));
    let cluster = Cluster::with().installation(&installation).start();
    let (mut session, mut other) = (cluster.connect(), cluster.connect());
    // The first batch has 1,024 texts, the second, with that row, fewer, since they are computed one by one.
    let mut texts = bulk::texts(1100, 4);
    texts.extend(bulk::texts(50, 3).into_iter().cycle().take(1900));
    texts[ROW - 1] = format!("this text is made of {}", POISON.word);
    create_docs_of(&mut session, &texts);
    execute(
        &mut session,
        "CREATE TABLE others AS SELECT 'other ' || i AS body FROM generate_series(1, 200) AS i",
    );
    let blamed = |error: &postgres::error::DbError, row: usize| {
        assert_error(error, "58000");
        let detail = error.detail().unwrap_or_default();
        assert!(detail.contains(&format!("row {row} of the input")), "{error:?}");
        assert!(!format!("{error:?}").contains(POISON.word), "the text is not told");
    };
    thread::scope(|scope| {
        let update = scope.spawn(|| {
            // The first time it crashes the engine, the second time it is refused.
            for _ in 0..2 {
                let outcome = session.execute("UPDATE docs SET embedding = embed(body)", &[]);
                blamed(&refused(outcome), ROW);
            }
            let half = "SELECT count(embed(body)) FROM docs WHERE id > 1000";
            blamed(&refused(session.query(half, &[])), ROW - 1000);
        });
        let sentences = golden::sentences();
        for turn in 0.. {
            if update.is_finished() && turn > 20 {
                break;
            }
            let golden = sentences[turn % sentences.len()];
            golden.assert_is(&embed(&mut other, &golden.text).expect("a vector"));
            assert_eq!(count(&mut other, "SELECT count(embed(body)) FROM others"), 200);
        }
        update.join().expect("both are refused");
    });
    assert_eq!(count(&mut other, "SELECT count(embedding) FROM docs"), 0, "nothing was updated");
    execute(&mut other, &format!("UPDATE docs SET embedding = embed(body) WHERE id <> {ROW}"));
    execute(&mut other, &format!("DELETE FROM docs WHERE id = {ROW}"));
    assert_eq!(wrong(&mut other), 0);
}
