//! Texts that come again are not computed again.

use std::fs;
use std::thread;

use postgres::Client;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::golden::{self, Golden};
use vector_embed_e2e::installation::{Installation, move_away};
use vector_embed_e2e::sql::{embed, embed_all, embed_by, execute, stat_engine};
use vector_embed_e2e::vectors::max_difference;
use vector_embed_e2e::{fixtures, process, wait};

/// Texts that the engine has computed, and texts that it has found in its cache.
fn computed_and_found(client: &mut Client) -> (i64, i64) {
    let engine = stat_engine(client).expect("an engine");
    (engine.texts, engine.cache_hits)
}

fn assert_embeds(client: &mut Client, golden: &Golden) {
    golden.assert_is(&embed(client, &golden.text).expect("a vector"));
}

#[test]
fn a_text_is_computed_once_whoever_asks() {
    let cluster = Cluster::new();
    let (mut client, mut other) = (cluster.connect(), cluster.connect());
    let [first, second, third] = [0, 1, 2].map(|number| golden::sentences()[number]);
    assert_embeds(&mut client, first);
    assert_eq!(computed_and_found(&mut client), (1, 0));
    assert_embeds(&mut client, first);
    assert_eq!(computed_and_found(&mut client), (1, 1));
    assert_embeds(&mut other, first);
    assert_eq!(computed_and_found(&mut client), (1, 2));

    let texts = [second, first, third, first];
    let vectors = embed_all(&mut other, &golden::texts(texts)).expect("vectors");
    for (golden, vector) in texts.iter().zip(&vectors) {
        golden.assert_is(vector);
    }
    assert_eq!(computed_and_found(&mut client), (3, 4));
    let bytes = stat_engine(&mut client).expect("an engine").cache_bytes;
    assert!(bytes > 3 * 384 * 4 && bytes < 3 * 384 * 4 + 1000, "{bytes} bytes for three vectors");
}

#[test]
fn without_a_cache_each_text_is_computed() {
    let cluster = Cluster::with().setting("vector_embed.cache_size", "0").start();
    let mut client = cluster.connect();
    let golden = golden::sentences()[0];
    assert_embeds(&mut client, golden);
    assert_embeds(&mut client, golden);
    assert_eq!(computed_and_found(&mut client), (2, 0));
    assert_eq!(stat_engine(&mut client).expect("an engine").cache_bytes, 0);
}

#[test]
fn another_size_takes_effect_on_reload_and_bounds_the_cache() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    assert_embeds(&mut client, golden::sentences()[0]);
    let first = cluster.engine();
    assert!(process::title(first).contains("--cache-size 32768"), "{}", process::title(first));
    execute(&mut client, "ALTER SYSTEM SET vector_embed.cache_size = '64kB'");
    execute(&mut client, "SELECT pg_reload_conf()");
    wait::until("there is another engine", || {
        stat_engine(&mut client).is_some_and(|engine| engine.pid != first)
    });
    assert_embeds(&mut client, golden::sentences()[0]);
    assert_eq!(computed_and_found(&mut client), (1, 0));
    embed_all(&mut client, &golden::texts(golden::sentences().iter().copied())).expect("vectors");
    let engine = stat_engine(&mut client).expect("an engine");
    assert!(engine.cache_bytes > 60 << 10 && engine.cache_bytes <= 64 << 10, "{engine:?}");
}

#[test]
fn a_model_that_was_replaced_gets_vectors_of_its_own() {
    let installation = Installation::copy();
    let model = installation.add_model(&fixtures::source("tiny-bert"));
    let cluster = Cluster::with().installation(&installation).start();
    let mut client = cluster.connect();
    let golden = |name: &str| {
        let fixture = fixtures::all().into_iter().find(|fixture| fixture.name == name);
        fixture.expect("the fixture exists").golden.swap_remove(2)
    };
    let (text, before) = golden("tiny-bert");
    let (_, after) = golden("tiny-bert-cls");
    for _ in 0..2 {
        let vector = embed_by(&mut client, &text, "tiny-bert").expect("a vector");
        assert!(max_difference(&vector, &before) < 1e-4);
    }
    assert_eq!(computed_and_found(&mut client), (1, 1));

    let old = move_away(&model);
    let other = installation.add_model(&fixtures::source("tiny-bert-cls"));
    fs::rename(&other, &model).expect("a directory can be renamed");
    wait::until("the new model is used", || {
        let vector = embed_by(&mut client, &text, "tiny-bert").expect("a vector of one model or the other");
        max_difference(&vector, &after) < 1e-4
    });
    let vector = embed_by(&mut client, &text, "tiny-bert").expect("a vector");
    assert!(max_difference(&vector, &after) < 1e-4, "also when it comes again");
    assert_eq!(computed_and_found(&mut client).0, 2);

    // The first one again: it is loaded again, so it is another to the cache, and none to its users.
    fs::rename(&model, &other).expect("a directory can be renamed");
    old.put_back();
    wait::until("the old model is used", || {
        let vector = embed_by(&mut client, &text, "tiny-bert").expect("a vector of one model or the other");
        max_difference(&vector, &before) < 1e-4
    });
}

#[test]
fn many_sessions_that_ask_the_same_get_what_they_asked_for() {
    let cluster = Cluster::with().setting("vector_embed.cache_size", "64kB").start();
    let sentences = golden::sentences();
    thread::scope(|scope| {
        for number in 0..8 {
            let cluster = &cluster;
            scope.spawn(move || {
                let mut client = cluster.connect();
                for step in 0..20 {
                    // Neighbours share most of their texts, and the cache holds fewer than there are.
                    let own = sentences.iter().copied().cycle().skip(number + 3 * step).take(12);
                    let own: Vec<&Golden> = own.collect();
                    let vectors =
                        embed_all(&mut client, &golden::texts(own.iter().copied())).expect("vectors");
                    for (golden, vector) in own.iter().zip(&vectors) {
                        golden.assert_is(vector);
                    }
                    assert_embeds(&mut client, own[0]);
                }
            });
        }
    });
    let mut client = cluster.connect();
    let (computed, found) = computed_and_found(&mut client);
    assert_eq!(computed + found, 8 * 20 * 13, "{computed} computed, {found} found");
    assert!(found > 0);
}
