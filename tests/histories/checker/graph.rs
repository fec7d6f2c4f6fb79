//! Which operation comes before which, and why: the dependency graph.
//!
//! Operations are nodes under their place in the history; behind them come the barriers of real time. A barrier stands between
//! completions and the invocations that follow them: each operation points to the first barrier after its completion, each barrier to
//! the next one, and the last barrier before its invocation to each operation. So there is a way from one operation to another over
//! barriers alone exactly if the one was completed before the other was invoked, at three edges for an operation.

use super::orders::{NOBODY, Order, Orders};
use crate::histories::history::{Operation, Outcome};

/// Why one operation comes before another. The values are bits, for sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Why {
    /// Its append stands right before the other's.
    Ww = 1,
    /// The other read a version that ends with its append.
    Wr = 2,
    /// It read the version that the other's append ended.
    Rw = 4,
    /// It was completed before the other was invoked.
    Rt = 8,
}

/// In place of the key of an edge of real time.
const NO_KEY: u32 = u32::MAX;

/// An edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) why: Why,
    /// The key in question, by its place in [`Orders`].
    pub(super) key: u32,
    /// The place in its order: of the second append (ww), of the last value read (wr), of the first not read (rw).
    pub(super) at: u32,
}

/// The graph.
pub(super) struct Graph {
    /// How many nodes are operations.
    pub(super) operations: usize,
    /// How many nodes there are.
    pub(super) nodes: usize,
    edges: Vec<Edge>,
    /// Where in `by_source` the edges of each node begin, and where the last node's end.
    starts: Vec<u32>,
    by_source: Vec<u32>,
}

impl Graph {
    /// The graph of those operations of `history` that took effect.
    pub(super) fn of(history: &[Operation], orders: &Orders<'_>, took_effect: &[bool]) -> Graph {
        let mut edges = Vec::new();
        for (order, key) in orders.keys.iter().zip(0..) {
            if order.is_order {
                add_writes(order, key, &mut edges);
                add_reads(order, key, &mut edges);
            }
        }
        let barriers = add_real_time(history, took_effect, &mut edges);
        Graph::new(history.len(), history.len() + barriers, edges)
    }

    fn new(operations: usize, nodes: usize, edges: Vec<Edge>) -> Graph {
        let mut starts = vec![0; nodes + 1];
        for edge in &edges {
            starts[edge.from as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut by_source = vec![0; edges.len()];
        for (edge, number) in edges.iter().zip(0..) {
            let place = &mut next[edge.from as usize];
            by_source[*place as usize] = number;
            *place += 1;
        }
        Graph { operations, nodes, edges, starts, by_source }
    }

    /// The places of the edges that leave `node`, for [`Graph::edge`].
    pub(super) fn places(&self, node: u32) -> std::ops::Range<u32> {
        self.starts[node as usize]..self.starts[node as usize + 1]
    }

    /// The edge at a place.
    pub(super) fn edge(&self, place: u32) -> &Edge {
        &self.edges[self.by_source[place as usize] as usize]
    }

    /// Whether `node` is an operation, not a barrier.
    pub(super) fn is_operation(&self, node: u32) -> bool {
        (node as usize) < self.operations
    }
}

fn add_writes(order: &Order<'_>, key: u32, edges: &mut Vec<Edge>) {
    let mut before = NOBODY;
    for (&writer, at) in order.writers.iter().zip(0..) {
        if writer == NOBODY {
            continue;
        }
        if before != NOBODY && before != writer {
            edges.push(Edge { from: before, to: writer, why: Why::Ww, key, at });
        }
        before = writer;
    }
}

fn add_reads(order: &Order<'_>, key: u32, edges: &mut Vec<Edge>) {
    for (reader, base) in order.reads.iter().filter_map(|read| Some((read.op, read.base?))) {
        let (seen, unseen) = order.writers.split_at(base);
        if let Some(at) = seen.iter().rposition(|writer| *writer != NOBODY)
            && seen[at] != reader
        {
            edges.push(Edge { from: seen[at], to: reader, why: Why::Wr, key, at: at as u32 });
        }
        // What follows the reader's own append is ordered after the reader by that append.
        if let Some(at) = unseen.iter().position(|writer| *writer != NOBODY)
            && unseen[at] != reader
        {
            edges.push(Edge { from: reader, to: unseen[at], why: Why::Rw, key, at: (seen.len() + at) as u32 });
        }
    }
}

/// Adds the edges of real time and tells how many barriers they need.
fn add_real_time(history: &[Operation], took_effect: &[bool], edges: &mut Vec<Edge>) -> usize {
    // What happens at the same instant is not ordered: invocations (false) come first.
    let mut events = Vec::with_capacity(2 * history.len());
    for ((operation, op), _) in history.iter().zip(0_u32..).zip(took_effect).filter(|(_, took_effect)| **took_effect) {
        events.push((operation.invoked, false, op));
        if operation.outcome != Outcome::Unknown {
            events.push((operation.completed, true, op));
        }
    }
    events.sort_unstable();

    let mut barriers = 0;
    let mut completed = Vec::new();
    let mut add = |from, to| edges.push(Edge { from, to, why: Why::Rt, key: NO_KEY, at: 0 });
    for (_, is_completion, op) in events {
        if is_completion {
            completed.push(op);
            continue;
        }
        let barrier = (history.len() + barriers) as u32;
        if !completed.is_empty() {
            if barriers > 0 {
                add(barrier - 1, barrier);
            }
            barriers += 1;
            completed.drain(..).for_each(|before| add(before, barrier));
        }
        if barriers > 0 {
            add((history.len() + barriers - 1) as u32, op);
        }
    }
    barriers
}
