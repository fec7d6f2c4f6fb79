//! The integration tests: one binary, which links once, with a module for each subject.
//!
//! They run against real servers and the real `weft` binary, started by [`support`] on ports of their own, so that every test may run
//! beside every other. `make test` installs what they need.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod affinity;
mod blocking;
mod bullmq;
mod busy;
mod celery;
mod channels_redis;
mod clients;
mod command_table;
mod commands;
mod configuring;
mod contention;
mod deploy;
mod dramatiq;
mod faults;
mod fuzz;
mod histories;
mod keyspace;
mod managing_clients;
mod memory;
mod monitor;
mod multi;
mod operators;
mod placement;
mod pubsub;
mod python;
mod readme;
mod rq;
mod script_reply;
mod scripts;
mod server_commands;
mod starting;
mod support;
mod support_works;
mod tidy;
mod tracking;
