//! Readers of the stores that applications come from: SQLite files, Chroma directories, Qdrant servers.
//!
//! They know nothing of PostgreSQL but its types. Each is a [`Source`]: it lists tables, estimates their size, and
//! gives rows, value by value, as the types that the caller asks for. What does not fit is an error, or, where the
//! caller says so, NULL and counted ([`Losses`]).

pub mod chroma;
mod error;
mod host;
pub mod http;
mod losses;
mod pickle;
pub mod qdrant;
mod scan;
pub mod sqlite;
mod table;
mod text;
mod time;
mod value;

pub use error::{BadValue, Error, Problem};
pub use host::{Host, Interest, Zone};
pub use losses::Losses;
pub use pickle::PickleFault;
pub use scan::{
    Accepted, Comparison, Describe, Estimate, Filter, OnError, Operand, Operation, Plan, Rows, Scan, Source,
};
pub use table::{Column, Table};
pub use value::{Type, Value};
