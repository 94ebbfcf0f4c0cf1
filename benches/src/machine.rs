//! What the results were measured on.

use std::fs;
use std::thread;

use postgres::Client;

use crate::arguments::Arguments;
use crate::error::Result;

/// Date, machine and versions, as lines of Markdown.
pub(crate) fn describe(client: &mut Client, arguments: &Arguments, threads: usize) -> Result<String> {
    let row = client.query_one(
        "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS date,
                current_setting('server_version') AS server,
                (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector,
                (SELECT extversion FROM pg_extension WHERE extname = 'vector_embed') AS vector_embed,
                current_setting('vector_embed.batch_tokens') AS batch_tokens",
        &[],
    )?;
    let value = |name: &str| row.try_get::<_, String>(name);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    Ok(format!(
        "`make bench` on {date} UTC: {processor}, {cores} cores, load {load} at the start; \
         PostgreSQL {server}, pgvector {pgvector}, vector_embed {vector_embed}, ONNX Runtime {runtime}; \
         {model}, {threads} threads, batches of {batch_tokens} tokens.",
        date = value("date")?,
        processor = processor(),
        load = load(),
        server = value("server")?,
        pgvector = value("pgvector")?,
        vector_embed = value("vector_embed")?,
        runtime = arguments.runtime_version,
        model = arguments.model.file_name().unwrap_or_default().to_string_lossy(),
        batch_tokens = value("batch_tokens")?,
    ))
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(':'))
        .map_or("unknown processor".to_owned(), |(_, name)| name.trim().to_owned())
}

fn load() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    averages.split(' ').next().unwrap_or_default().to_owned()
}
