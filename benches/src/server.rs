//! Connections to the server, and how results are read.

use std::env;
use std::error::Error;

use postgres::types::{FromSql, Type};
use postgres::{Client, Config, NoTls};

use crate::error::Result;

/// Where the server is.
pub(crate) struct Server {
    config: Config,
}

impl Server {
    /// The server that PGHOST, PGPORT, PGUSER and PGDATABASE name.
    pub(crate) fn from_environment() -> Result<Self> {
        let host = env::var("PGHOST").map_err(|_| "PGHOST is not set")?;
        let or = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let mut config = Config::new();
        config
            .host(&host)
            .port(or("PGPORT", "5432").parse()?)
            .user(&or("PGUSER", "postgres"))
            .dbname(&or("PGDATABASE", "postgres"))
            .application_name("vector_embed bench");
        Ok(Self { config })
    }

    /// The server whose socket is in `folder`, as the same user.
    pub(crate) fn at(&self, folder: &str) -> Self {
        let mut config = Config::new();
        config.host(folder).port(5432).user(self.config.get_user().unwrap_or("postgres")).dbname("postgres");
        Self { config }
    }

    /// A new connection to a database of this name.
    pub(crate) fn connect_to(&self, database: &str) -> Result<Client> {
        Ok(self.config.clone().dbname(database).connect(NoTls)?)
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Result<Client> {
        Ok(self.config.connect(NoTls)?)
    }
}

/// The engine of most models: those of some precisions may have another.
pub(crate) const ENGINE: &str =
    "(SELECT * FROM vector_embed.stat_engine WHERE runtime = 'onnxruntime') AS engine";

/// How the engine computes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Threads of a batch.
    pub(crate) threads: usize,
    /// Tokens of a batch, padding included.
    pub(crate) batch_tokens: usize,
}

/// Creates the extension, starts the engine and has it load the model.
pub(crate) fn prepare(client: &mut Client) -> Result<Settings> {
    client.batch_execute(
        "SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS vector_embed CASCADE",
    )?;
    client.batch_execute("SELECT embed('ready?')")?;
    let row = client.query_one("SHOW vector_embed.cache_size", &[])?;
    if row.try_get::<_, &str>(0)? != "0" {
        return Err("vector_embed.cache_size of the server is not 0: what is measured is computing".into());
    }
    let row = client.query_one(
        &format!(
            "SELECT threads::bigint, current_setting('vector_embed.batch_tokens')::bigint FROM {ENGINE}"
        ),
        &[],
    )?;
    let number = |place| row.try_get::<_, i64>(place).map(|number| number as usize);
    Ok(Settings { threads: number(0)?, batch_tokens: number(1)? })
}

/// What the engine has computed since it started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineCounters {
    /// Texts.
    pub(crate) texts: f64,
    /// Batches.
    pub(crate) batches: f64,
    /// Milliseconds of these.
    pub(crate) compute_time: f64,
}

impl EngineCounters {
    pub(crate) fn read(client: &mut Client) -> Result<Self> {
        let sql = format!("SELECT texts::float8, batches::float8, compute_time FROM {ENGINE}");
        let row = client.query_one(&sql, &[])?;
        Ok(Self { texts: row.try_get(0)?, batches: row.try_get(1)?, compute_time: row.try_get(2)? })
    }

    /// What came after `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            texts: self.texts - before.texts,
            batches: self.batches - before.batches,
            compute_time: self.compute_time - before.compute_time,
        }
    }
}

/// A value of any type as it comes over the wire, in the binary format that drivers ask for. Nothing is parsed.
pub(crate) struct Raw(Vec<u8>);

impl Raw {
    /// Size of the value.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The numbers of a `vector`, which begins with its dimensions and an unused field, 16 bits each.
    pub(crate) fn vector(&self) -> Vec<f32> {
        let numbers = self.0.get(4..).unwrap_or_default();
        let (numbers, _) = numbers.as_chunks::<4>();
        numbers.iter().map(|bytes| f32::from_be_bytes(*bytes)).collect()
    }
}

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
