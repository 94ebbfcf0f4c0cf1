//! The settings `vector_embed.*`.

use std::borrow::Cow;
use std::ffi::CString;
use std::path::PathBuf;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use vector_embed_protocol::{Overlong, is_model_name};

use super::paths;
use super::text::from_server;
use crate::error::Error;

/// Stands in `vector_embed.model_path` for the installation's own models, as in PostgreSQL's path settings.
const SYSTEM: &str = "$system";

static DEFAULT_MODEL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"all-MiniLM-L6-v2"));
static OVERLONG_TEXT: GucSetting<OverlongText> = GucSetting::<OverlongText>::new(OverlongText::Truncate);
static BATCH_PLANNING: GucSetting<bool> = GucSetting::<bool>::new(true);
static MODEL_PATH: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"$system"));
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static BATCH_TOKENS: GucSetting<i32> = GucSetting::<i32>::new(512);
/// In kilobytes.
static CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(32 << 10);
/// In kilobytes.
static MAX_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(0);
/// In seconds.
static IDLE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30 * 60);
static QUEUE_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum OverlongText {
    #[name = c"truncate"]
    Truncate,
    #[name = c"error"]
    Error,
}

/// What the engine is started with. Equal values need no new engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineSettings {
    pub(crate) models: Vec<PathBuf>,
    pub(crate) threads: usize,
    pub(crate) batch_tokens: usize,
    pub(crate) cache_kilobytes: usize,
    pub(crate) max_memory_kilobytes: u64,
    pub(crate) idle_seconds: u64,
}

/// Makes the settings known to PostgreSQL.
pub(crate) fn define() {
    GucRegistry::define_string_guc(
        c"vector_embed.default_model",
        c"Sets the model that embed() uses where none is named.",
        c"",
        &DEFAULT_MODEL,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"vector_embed.overlong_text",
        c"Sets what happens to texts with more tokens than the model takes.",
        c"\"truncate\" embeds the first tokens and warns once per statement, \"error\" refuses the text.",
        &OVERLONG_TEXT,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"vector_embed.batch_planning",
        c"Enables the planner's use of batches for calls of embed() and embed_query().",
        c"",
        &BATCH_PLANNING,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_string_guc(
        c"vector_embed.model_path",
        c"Sets the directories that hold models, separated by colons.",
        c"\"$system\" stands for the models of the installation. Of two models of one name the first counts.",
        &MODEL_PATH,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"vector_embed.threads",
        c"Sets the number of threads that compute one batch.",
        c"0 means one for each processor.",
        &THREADS,
        0,
        1024,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"vector_embed.batch_tokens",
        c"Sets the number of tokens, padding included, that are computed in one batch.",
        c"A text with more tokens is a batch of its own.",
        &BATCH_TOKENS,
        16,
        65536,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"vector_embed.cache_size",
        c"Sets the memory for vectors that are kept for texts that come again.",
        c"0 turns the cache off.",
        &CACHE_SIZE,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"vector_embed.max_memory",
        c"Sets the memory for models.",
        c"The models that were not used for longest make room for others. 0 means no limit.",
        &MAX_MEMORY,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"vector_embed.idle_timeout",
        c"Sets the time after which a model that nobody uses is unloaded.",
        c"0 means never.",
        &IDLE_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"vector_embed.queue_workers",
        c"Sets the number of background workers that serve queues of rows to embed.",
        c"0 leaves the queues alone.",
        &QUEUE_WORKERS,
        0,
        64,
        GucContext::Sighup,
        GucFlags::default(),
    );
    reserve_prefix();
}

fn reserve_prefix() {
    // SAFETY: the argument is a string that ends with NUL.
    unsafe {
        #[cfg(feature = "pg14")]
        pgrx::pg_sys::EmitWarningsOnPlaceholders(c"vector_embed".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pgrx::pg_sys::MarkGUCPrefixReserved(c"vector_embed".as_ptr());
    }
}

/// The model of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Model<'a> {
    /// That of `vector_embed.default_model`.
    Default,
    Named(&'a str),
}

impl<'a> Model<'a> {
    /// The model's name, if it may be one.
    pub(crate) fn name(self) -> Result<Cow<'a, str>, Error> {
        let name = match self {
            Self::Named(name) => Cow::Borrowed(name),
            Self::Default => Cow::Owned(from_server(&DEFAULT_MODEL.get().unwrap_or_default())),
        };
        if is_model_name(&name) { Ok(name) } else { Err(Error::ModelName(name.into_owned())) }
    }
}

/// Whether plans are made to compute calls in batches.
pub(crate) fn batch_planning() -> bool {
    BATCH_PLANNING.get()
}

/// What to do with overlong texts.
pub(crate) fn overlong() -> Overlong {
    match OVERLONG_TEXT.get() {
        OverlongText::Truncate => Overlong::Truncate,
        OverlongText::Error => Overlong::Refuse,
    }
}

/// How many workers may serve queues at once.
pub(crate) fn queue_workers() -> usize {
    QUEUE_WORKERS.get() as usize
}

/// The engine's settings as they are now.
pub(crate) fn engine() -> EngineSettings {
    let path = MODEL_PATH.get().unwrap_or_default();
    let models = path
        .to_string_lossy()
        .split(':')
        .filter(|directory| !directory.is_empty())
        .map(|directory| match directory {
            SYSTEM => paths::share_dir().join("vector_embed/models"),
            other => PathBuf::from(other),
        })
        .collect();
    let threads = match THREADS.get() {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads as usize,
    };
    EngineSettings {
        models,
        threads,
        batch_tokens: BATCH_TOKENS.get() as usize,
        cache_kilobytes: CACHE_SIZE.get() as usize,
        max_memory_kilobytes: MAX_MEMORY.get() as u64,
        idle_seconds: IDLE_TIMEOUT.get() as u64,
    }
}
