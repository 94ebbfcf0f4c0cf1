//! Where the time of a batch goes, by ONNX Runtime's own account.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Bench, Measurement};
use crate::error::Result;
use crate::report::{Bar, Figures, Row, Unit};
use crate::texts;

pub(super) const MEASUREMENT: Measurement =
    Measurement { name: "operators", what: "where the time of a batch goes", run };

const SHORT: usize = 2000;
const LONG: usize = 100;
/// Tokens of a batch, as `vector_embed.batch_tokens` has it by default.
const BUDGET: usize = 512;
/// Computations of one look at the limit.
const LIMIT_RUNS: usize = 30;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let short = shares(bench, "short", bench.short_texts(SHORT))?;
    let mut passages = texts::read_lines(&bench.arguments.optional("passages")?)?;
    passages.truncate(bench.count(LONG));
    Ok(vec![short, shares(bench, "long", &passages)?])
}

/// One event of a profile.
#[derive(Deserialize)]
struct Event {
    name: String,
    /// Microseconds.
    dur: f64,
    #[serde(default)]
    args: Operator,
}

#[derive(Deserialize, Default)]
struct Operator {
    #[serde(default)]
    op_name: String,
}

fn shares(bench: &Bench, what: &str, texts: &[String]) -> Result<Row> {
    let folder = std::env::temp_dir().join(format!("vector_embed_bench.{}", std::process::id()));
    fs::create_dir(&folder)?;
    let times = profile(bench, texts, &folder);
    fs::remove_dir_all(&folder)?;
    let (all, times) = times?;
    let limit = 1e6 * bench.bare.count_tokens(texts)? as f64 / bench.bare.limit(bench.rounds(LIMIT_RUNS))?;
    let mut times: Vec<(String, f64)> = times.into_iter().collect();
    times.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let between = all - times.iter().map(|(_, time)| time).sum::<f64>();
    times.push(("between them".to_owned(), between));
    let list: Vec<String> =
        times.iter().map(|(name, time)| format!("{name} {:.1} %", 100.0 * time / all)).collect();
    let notes = format!(
        "{} texts in batches of {BUDGET} tokens in the bench's own process, against the model's matrix products alone; by \
         ONNX Runtime's own profile: {}",
        texts.len(),
        list.join(", "),
    );
    let figures = Figures { result: limit / all, ..Figures::times(all / 1e3, limit / 1e3, Bar::None) };
    Ok(Row::new(format!("operators in batches of {what} texts"), figures.in_unit(Unit::Share), notes))
}

/// Microseconds of all runs, and of each kind of operator in them.
fn profile(bench: &Bench, texts: &[String], folder: &Path) -> Result<(f64, HashMap<String, f64>)> {
    let model = bench.bare.load_profiled(&folder.join("profile"))?;
    bench.bare.embed_sorted_by(&model, texts, BUDGET)?;
    drop(model);
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    let [file] = files.as_slice() else { return Err("not one profile".into()) };
    let events: Vec<serde_json::Value> = serde_json::from_reader(fs::File::open(file)?)?;
    let (mut all, mut times) = (0.0, HashMap::new());
    // Some events have no duration.
    for event in events.into_iter().filter_map(|event| serde_json::from_value::<Event>(event).ok()) {
        if event.name == "model_run" {
            all += event.dur;
        } else if event.name.ends_with("_kernel_time") {
            *times.entry(event.args.op_name).or_default() += event.dur;
        }
    }
    if times.is_empty() {
        return Err("a profile without operators".into());
    }
    Ok((all, times))
}
