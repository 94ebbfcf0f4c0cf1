//! What the results were measured on.

use std::fs;
use std::thread;
use std::time::Duration;

use postgres::Client;

use crate::arguments::Arguments;
use crate::error::Result;
use crate::server::Settings;

/// How long other programs are listened to.
const LISTENING: Duration = Duration::from_secs(3);

/// Date, machine and versions, as lines of Markdown.
pub(crate) fn describe(client: &mut Client, arguments: &Arguments, settings: Settings) -> Result<String> {
    let row = client.query_one(
        "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS date,
                current_setting('server_version') AS server,
                (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector,
                (SELECT extversion FROM pg_extension WHERE extname = 'vector_embed') AS vector_embed",
        &[],
    )?;
    let value = |name: &str| row.try_get::<_, String>(name);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    Ok(format!(
        "{command} on {date} UTC: {processor}, {cores} cores, {busy:.0} % busy with other work \
         before the start; \
         PostgreSQL {server}, pgvector {pgvector}, vector_embed {vector_embed}, ONNX Runtime {runtime}; \
         {model}, {threads} threads, batches of {batch_tokens} tokens.",
        command = if arguments.quick { "A quick run, whose numbers mean nothing," } else { "`make bench`" },
        date = value("date")?,
        processor = processor(),
        busy = busy(),
        server = value("server")?,
        pgvector = value("pgvector")?,
        vector_embed = value("vector_embed")?,
        runtime = arguments.value("runtime-version"),
        model = arguments.path("model").file_name().unwrap_or_default().to_string_lossy(),
        threads = settings.threads,
        batch_tokens = settings.batch_tokens,
    ))
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(':'))
        .map_or("unknown processor".to_owned(), |(_, name)| name.trim().to_owned())
}

/// Per cent of the processors' time that other programs take, measured while this one waits. The load average
/// would tell of the build that came before.
fn busy() -> f64 {
    let before = ticks();
    thread::sleep(LISTENING);
    let after = ticks();
    100.0 * (after.busy - before.busy) / (after.all - before.all)
}

/// Time that all processors together have spent.
struct Ticks {
    busy: f64,
    all: f64,
}

/// NaN where the system does not tell.
fn ticks() -> Ticks {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guests' time is part of user's.
    let fields: Vec<f64> =
        line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    match fields[..] {
        [_, _, _, idle, waiting, ..] => {
            let all = fields.iter().sum();
            Ticks { busy: all - idle - waiting, all }
        }
        _ => Ticks { busy: f64::NAN, all: f64::NAN },
    }
}
