//! What the engine holds in memory: models that are used, and no more for the texts that it has seen.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use postgres::Client;
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::fixtures::{self, Fixture};
use vector_embed_e2e::sql::{
    ModelRow, assert_error, embed, embed_and_forget, embed_by, execute, refused, stat_engine, stat_model,
};
use vector_embed_e2e::vectors::max_difference;
use vector_embed_e2e::wait::Together;
use vector_embed_e2e::{bulk, wait};

const PRODUCT: &str = "all-MiniLM-L6-v2";

/// A server with the tiny models beside the product's.
fn with_tiny_models() -> Cluster {
    let path = format!("$system:{}", fixtures::copy().display());
    Cluster::with().setting("vector_embed.model_path", &path).uncached().start()
}

fn model(client: &mut Client, name: &str) -> ModelRow {
    stat_model(client, name).expect("the model was asked for")
}

/// Sets something for all and has the server reload its configuration; returns when it is in force.
fn set(client: &mut Client, setting: &str) {
    let before = stat_engine(client).expect("an engine").pid;
    execute(client, &format!("ALTER SYSTEM SET vector_embed.{setting}"));
    execute(client, "SELECT pg_reload_conf()");
    wait::until("the setting is in force", || stat_engine(client).is_some_and(|engine| engine.pid != before));
}

#[test]
fn a_model_that_nobody_uses_is_unloaded_and_comes_again() {
    let cluster = Cluster::with().uncached().start();
    let mut client = cluster.connect();
    embed(&mut client, "the model is loaded").expect("a vector");
    assert!(model(&mut client, PRODUCT).loaded, "it stays for long by default");
    set(&mut client, "idle_timeout = '1s'");
    embed(&mut client, "here it is").expect("a vector");
    let engine = stat_engine(&mut client).expect("an engine");
    wait::until("the model is unloaded", || !model(&mut client, PRODUCT).loaded);
    wait::until("its memory is given back", || {
        let idle = stat_engine(&mut client).expect("an engine");
        assert_eq!(idle.pid, engine.pid, "the engine stays");
        engine.resident_bytes - idle.resident_bytes > 80_000_000
    });

    let gone = model(&mut client, PRODUCT);
    let expected = ModelRow { loaded: false, memory_bytes: 0, loads: 1, unloads: 1, texts: 1, errors: 0 };
    assert_eq!(gone, expected, "what was counted stays");
    let listed = "SELECT loaded FROM vector_embed.models WHERE name = $1";
    assert!(!client.query_one(listed, &[&PRODUCT]).expect("the model").get::<_, bool>(0));
    embed(&mut client, "here it is again").expect("a vector");
    let again = model(&mut client, PRODUCT);
    assert_eq!((again.loads, again.texts), (2, 2));
}

#[test]
fn models_that_do_not_fit_together_make_room_for_each_other_and_no_call_fails() {
    const CALLS: usize = 12;
    let cluster = with_tiny_models();
    let mut client = cluster.connect();
    let of = |name: &str| fixtures::all().into_iter().find(|it| it.name == name).expect("the fixture exists");
    let tiny = [of("tiny-bert"), of("tiny-bert-cls")];
    let ask = |client: &mut Client, fixture: &Fixture| {
        let (text, expected) = &fixture.golden[2];
        let vector = embed_by(client, text, &fixture.name).expect("a vector");
        assert!(max_difference(&vector, expected) < 1e-4, "a vector of {}", fixture.name);
    };
    let kilobytes = tiny.iter().map(|fixture| {
        ask(&mut client, fixture);
        model(&mut client, &fixture.name).memory_bytes / 1024
    });
    let largest = kilobytes.max().expect("two models");
    set(&mut client, &format!("max_memory = '{}kB'", largest + 1));

    let together = Together::of(2);
    thread::scope(|scope| {
        for fixture in &tiny {
            let (cluster, together) = (&cluster, &together);
            scope.spawn(move || {
                let mut client = cluster.connect();
                for _ in 0..CALLS {
                    together.wait();
                    ask(&mut client, fixture);
                }
            });
        }
    });
    let rows = tiny.each_ref().map(|fixture| model(&mut client, &fixture.name));
    assert_eq!(rows.iter().filter(|row| row.loaded).count(), 1, "{rows:?}");
    for row in rows {
        assert_eq!((row.texts, row.errors), (CALLS as i64, 0));
        assert!(row.loads > 1, "{row:?}");
    }

    let error = refused(embed(&mut client, "too large"));
    let hint = assert_error(&error, "53200");
    assert!(hint.contains("vector_embed.max_memory"), "{hint}");
    assert_eq!(model(&mut client, PRODUCT).errors, 1);
    // It needs no restart.
    set(&mut client, "max_memory = '500MB'");
    embed(&mut client, "not too large").expect("a vector");
}

#[test]
fn after_10_000_mixed_texts_memory_is_what_it_was_after_100_of_the_longest() {
    let cluster = Cluster::new();
    let mut client = cluster.connect();
    // More tokens than the model takes, so that each is as long as any can be.
    let longest = bulk::texts(100, 300);
    embed_and_forget(&mut client, &longest).expect("vectors");
    let before = stat_engine(&mut client).expect("an engine");
    assert_eq!(before.texts, 100);

    // 9,900 more, one in a hundred as long, from four sessions that send 1 to 600 texts at a time.
    let lengths = [1, 2, 3, 5, 8, 13, 21].map(|words| bulk::texts(1400, words));
    let mut texts: Vec<String> = lengths.into_iter().flatten().collect();
    texts.extend(bulk::texts(200, 300).split_off(100));
    let mixed: Vec<String> = (0..9900).map(|number| texts[number * 7919 % texts.len()].clone()).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            let (cluster, next, mixed) = (&cluster, &next, &mixed);
            scope.spawn(move || {
                let mut client = cluster.connect();
                for count in [1, 600, 20, 150, 7].into_iter().cycle() {
                    let start = next.fetch_add(count, Ordering::Relaxed).min(mixed.len());
                    if start == mixed.len() {
                        return;
                    }
                    let part = &mixed[start..(start + count).min(mixed.len())];
                    embed_and_forget(&mut client, part).expect("vectors");
                }
            });
        }
    });
    let after = stat_engine(&mut client).expect("an engine");
    assert_eq!(after.pid, before.pid);
    assert_eq!(after.texts + after.cache_hits, 10_000);
    assert!(after.texts > 9_000, "most texts were computed: {after:?}");
    let ratio = after.resident_bytes as f64 / before.resident_bytes as f64;
    assert!(ratio < 1.5, "memory grew to {ratio:.2} times what it was: {before:?}, {after:?}");
}
