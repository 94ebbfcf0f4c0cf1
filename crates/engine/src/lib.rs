//! The embedding engine: reads model directories, computes batches of texts that many callers send, and knows
//! nothing of PostgreSQL.

pub mod chunk;
pub mod cli;
pub mod compute;
pub mod error;
pub mod fuzz;
pub mod model;
mod process;
pub mod schedule;
pub mod serve;
