//! The specification of the running product. A module for each topic, a test for each statement.

mod arguments;
mod batches;
mod cache;
mod cancel;
mod concurrency;
mod containment;
mod crashes;
mod dump;
mod failures;
mod golden;
mod intruders;
mod models;
mod planning;
mod poison;
mod rules;
mod rust_client;
mod standby;
mod starting;
mod stopping;
mod upgrade;
