//! The extension: SQL surface, the client of the embedding engine, and the worker that keeps the engine running.
//!
//! Data flows one way: `api` → `client` → engine. `fdw` reads old stores. Only `pg`, `planner`, `fdw` and `worker` may use
//! `unsafe`.

mod api;
mod attachment;
mod client;
mod error;
#[allow(unsafe_code)]
mod fdw;
#[allow(unsafe_code)]
mod pg;
#[allow(unsafe_code)]
mod planner;
mod queue;
mod refresh;
#[allow(unsafe_code)]
mod worker;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

/// Called when the library is loaded, by the postmaster or by the first backend that needs it.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::no_backtraces();
    pg::settings::define();
    planner::install();
    worker::register_if_preloading();
}
