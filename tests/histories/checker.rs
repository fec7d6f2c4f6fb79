//! The checker of list-append histories: is there one order of all operations, in keeping with real time, that explains every reply?
//!
//! The method is Elle's (Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020), the
//! names are Adya's ("Weak Consistency: A Generalized Theory and Optimistic Implementations for Distributed Transactions", MIT 1999).
//! Every value is appended once, so a read of a key names all its writers in order, and the longest read of a key is the order of its
//! versions. From these orders and from the clock follows which operation comes before which:
//!
//! - *ww*: its append stands right before the other's,
//! - *wr*: the other read a version that ends with its append,
//! - *rw*: it read the version that the other's append ended,
//! - *rt*: it was completed before the other was invoked.
//!
//! # What is reported is wrong
//! Each of these edges holds in every order that explains the history, and an operation is given any only if it took effect for certain:
//! its client was told so, or one of its appends was seen. So a cycle proves that there is no such order. An operation of unknown outcome
//! ends never, so it comes before nothing that did not see it, and when nobody saw it, it is left out.
//!
//! # What is wrong is reported
//! ... provided that every key is read at the end, by one client that begins when all others are done. Then every append that
//! took effect has its place in an order or is reported as lost, and where nothing is found, sorting the operations along the edges gives
//! the order that explains the history: every read finds in it, right before itself, the version it saw. (`tests/exhaustive.rs` compares
//! the verdict with trying all orders.)
//!
//! Without the final reads, an append that no read saw is only missed, not misjudged. Not all that is wrong is listed, either: a read that is
//! reported by itself gives no edges, a key whose order holds a value twice gives none at all, and of operations that are all entangled
//! (a strongly connected component) one short cycle of each kind is shown.
//!
//! # What it costs
//! Time and memory are linear in the history's steps and seen values, but for one sort by time: real time is a chain of barriers, each
//! after the completions before it and before the invocations after it, and not an edge for each pair of operations.

mod alone;
mod components;
mod effects;
mod explain;
mod graph;
mod orders;
mod report;
mod search;
mod tests;

pub(crate) use report::{Kind, Report};

use super::history::Operation;
use graph::Graph;
use orders::Orders;
use report::Findings;

/// What in `history` no strictly serializable store could have answered. The order of the operations does not matter.
pub(crate) fn check(history: &[Operation]) -> Report {
    let mut findings = Findings::new(history);
    let mut orders = Orders::of(history, &mut findings);
    alone::check(history, &mut orders, &mut findings);
    let took_effect = effects::check(history, &orders, &mut findings);
    let graph = Graph::of(history, &orders, &took_effect);
    search::check(history, &orders, &graph, &mut findings);
    findings.report
}
