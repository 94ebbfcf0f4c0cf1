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

    /// A new connection.
    pub(crate) fn connect(&self) -> Result<Client> {
        Ok(self.config.connect(NoTls)?)
    }
}

/// Creates the extension, starts the engine and has it load the model. Returns the threads it computes with.
pub(crate) fn prepare(client: &mut Client) -> Result<usize> {
    client.batch_execute(
        "SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS vector_embed CASCADE",
    )?;
    client.batch_execute("SELECT embed('ready?')")?;
    let row = client.query_one("SHOW vector_embed.cache_size", &[])?;
    if row.try_get::<_, &str>(0)? != "0" {
        return Err("vector_embed.cache_size of the server is not 0: what is measured is computing".into());
    }
    let row = client.query_one("SELECT threads::bigint FROM vector_embed.stat_engine", &[])?;
    Ok(row.try_get::<_, i64>(0)? as usize)
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
