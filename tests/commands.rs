//! The commands as clients meet them: what they reply, in what order, and how they are refused.
//!
//! Most of it runs beside a server that weft does not know, whose every reply must be the same byte for byte, in RESP2 and RESP3, one by
//! one and pipelined.

mod compute;
mod connection;
mod pipeline;
mod protocol;
mod scripts;
mod scripts_over_shards;
mod several_keys;
mod sort;
mod values;
