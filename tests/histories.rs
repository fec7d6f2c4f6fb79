//! Histories: what clients did and saw, and whether one order of it all explains it.
//!
//! [`history`] is what is written down while clients run; [`checker`] looks for what no strictly serializable store could have
//! answered; `run` makes histories against real shards while things are killed.

mod checker;
mod history;
mod run;
