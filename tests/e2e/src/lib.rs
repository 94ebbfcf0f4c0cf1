//! What the end-to-end tests stand on: throwaway clusters of an installed server, copies of that installation to
//! damage, a look at the processes, and reference vectors.
//!
//! Everything is made below one directory of the run in /var/tmp. A cluster is stopped and removed when its value
//! is dropped; whatever is left when the test program ends, however it ends, a helper process removes.

pub mod account;
pub mod bf16;
pub mod bulk;
pub mod chroma;
pub mod cluster;
pub mod fixtures;
pub mod golden;
pub mod installation;
pub mod markers;
pub mod notes;
pub mod permits;
pub mod process;
pub mod qdrant;
pub mod repository;
pub mod run;
pub mod sql;
pub mod stopper;
pub mod template;
pub mod vectors;
pub mod wait;
pub mod wire;
