//! The unit tests of the bench code: a bench target runs without libtest, so its modules are compiled once more here.

#![allow(dead_code, reason = "only the tests of these modules run here")]

mod args;
mod client;
mod cost;
mod fleet;
mod keyspace;
mod load;
mod machine;
mod operation;
mod plot;
mod probe;
mod process;
mod procfs;
mod results;
mod run;
mod stats;
mod svg;
mod sweep;
mod table;
mod target;
mod workload;
