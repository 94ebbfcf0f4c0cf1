//! The specification of the running product. A module for each topic, a test for each statement.

mod arguments;
mod cache;
mod cancel;
mod concurrency;
mod concurrent_writers;
mod containment;
mod crashes;
mod drift;
mod failures;
mod faulty;
mod golden;
mod intruders;
mod models;
mod planning;
mod poison;
mod replication;
mod restore;
mod rules;
mod rust_client;
mod standby;
mod starting;
mod stopping;
mod trigger_failures;
mod trigger_privileges;
mod triggers;
mod upgrade;
