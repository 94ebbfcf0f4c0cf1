//! Nothing that was queued is lost, whatever is killed when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postgres::{Client, NoTls};
use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::notes::{self, assert_fresh};
use vector_embed_e2e::process::{self, Signal};
use vector_embed_e2e::stopper::Stopper;
use vector_embed_e2e::wait;

const KILLS: usize = 200;
/// Every so many kills it is the server that is killed, and a worker, which takes the server with it.
const SERVER: usize = 20;
const WORKER: usize = 4;
const ROWS: usize = 300;

/// Writes rows for as long as it may, through sessions that end now and then.
fn write(config: &postgres::Config, writer: usize, stop: &AtomicBool) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = config.connect(NoTls) else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        while !stop.load(Ordering::Relaxed) && step(&mut client, writer, turn).is_ok() {
            turn += 1;
        }
    }
}

fn step(client: &mut Client, writer: usize, turn: usize) -> Result<(), postgres::Error> {
    let (id, other) = ((turn * 7 + writer * 31) % ROWS, (turn * 11 + writer) % ROWS);
    client.batch_execute(&match turn % 10 {
        9 => format!("DELETE FROM notes WHERE id = {id}"),
        8 => format!("UPDATE notes SET body = NULL WHERE id = {id}"),
        7 => format!(
            "UPDATE notes AS n SET id = id + 10000 WHERE id = {id}
             AND NOT EXISTS (SELECT FROM notes WHERE id = n.id + 10000)"
        ),
        6 => format!(
            "INSERT INTO notes SELECT {ROWS} + i + 1000 * {writer}, 'row ' || i || ' of turn {turn}'
             FROM generate_series(1, 20) AS i ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        ),
        _ => format!(
            "INSERT INTO notes VALUES ({id}, 'text {turn} of {writer}')
             ON CONFLICT (id) DO UPDATE SET body = excluded.body || ' for {other}'"
        ),
    })?;
    thread::sleep(Duration::from_millis(10));
    Ok(())
}

#[test]
fn two_hundred_kills_of_worker_engine_and_server_lose_nothing() {
    let mut cluster = Cluster::with().setting("vector_embed.cache_size", "0").start();
    let mut client = cluster.connect();
    notes::create(&mut client, "notes", "queue");
    drop(client);
    let config = cluster.config();
    let stop = AtomicBool::new(false);
    let mut killed = [0; 3];
    thread::scope(|scope| {
        let _stopper = Stopper::of(&stop);
        for writer in 0..3 {
            let (config, stop) = (&config, &stop);
            scope.spawn(move || write(config, writer, stop));
        }
        for kill in 1..=KILLS {
            // Not always at the same moment of a batch.
            thread::sleep(Duration::from_millis((kill * 37 % 120) as u64));
            if kill % SERVER == 0 {
                cluster.kill();
                cluster.start();
                killed[0] += 1;
            } else if kill % WORKER == 0 {
                let worker = wait::found("a worker runs", || {
                    // After a crash somebody has to use the extension.
                    config
                        .connect(NoTls)
                        .and_then(|mut client| client.batch_execute("SELECT embed('x')"))
                        .ok();
                    cluster.queue_workers().first().copied()
                });
                process::send(worker, Signal::KILL);
                killed[1] += 1;
            } else {
                let engine = wait::found("an engine runs", || {
                    config
                        .connect(NoTls)
                        .and_then(|mut client| client.batch_execute("SELECT embed('x')"))
                        .ok();
                    cluster.engines().first().copied()
                });
                process::send(engine, Signal::KILL);
                killed[2] += 1;
            }
        }
    });
    assert_eq!(killed, [KILLS / SERVER, KILLS / WORKER - KILLS / SERVER, KILLS - KILLS / WORKER]);
    let mut client = wait::found("the server takes connections", || config.connect(NoTls).ok());
    // Kills were blamed on some texts, which are refused for a minute.
    let is_done = |client: &mut Client| {
        client.batch_execute("CALL vector_embed.drain('notes', '10 min')").expect("the queue gets empty");
        let failed: i64 = client
            .query_one("SELECT count(*) FROM vector_embed.failures WHERE sqlstate <> '58000'", &[])
            .expect("a row")
            .get(0);
        assert_eq!(failed, 0, "rows fail for another reason");
        client
            .query_one("SELECT vector_embed.retry_failures('notes') = 0", &[])
            .expect("a row")
            .get::<_, bool>(0)
    };
    for _ in 0..120 {
        if is_done(&mut client) {
            break;
        }
        thread::sleep(Duration::from_secs(1));
    }
    let rows: i64 = client.query_one("SELECT count(*) FROM notes", &[]).expect("a row").get(0);
    assert!(rows > 0);
    assert_fresh(&mut client, "notes", rows);
    let failures: i64 =
        client.query_one("SELECT count(*) FROM vector_embed.failures", &[]).expect("a row").get(0);
    assert_eq!(failures, 0);
}
