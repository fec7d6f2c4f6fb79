//! Cycles of the dependency graph: a short one of each kind for operations that are entangled, with its name.
//!
//! A cycle is worth the more the fewer reasons it needs, so they are looked for in the order of [`LEVELS`]: first among writes alone,
//! then with what was read, then with what was missed, and then all again with real time. At each level, every component has its cycles
//! through the first edges of the reason that is new there compared, and the shortest reported.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::components::components;
use super::graph::{Edge, Graph, Why};
use super::orders::Orders;
use super::report::{Findings, Kind};
use crate::histories::history::{Key, Operation, Outcome};

/// How many edges of a component have the shortest cycle through them looked for.
const TRIES_MAX: usize = 64;
/// After how many walked edges no other is tried.
const WALK_MAX: usize = 5_000_000;

const WW: u8 = Why::Ww as u8;
const WR: u8 = Why::Wr as u8;
const RW: u8 = Why::Rw as u8;
const RT: u8 = Why::Rt as u8;

/// A cycle looked for: `whys` make up the component, one edge of `through` is on the cycle, and the way back is over edges of the first set
/// of `back` that has one. With [`RT`] in `whys`, the cycle has an edge of real time.
struct Level {
    whys: u8,
    through: Why,
    back: &'static [u8],
}

const LEVELS: [Level; 6] = [
    Level { whys: WW, through: Why::Ww, back: &[WW] },
    Level { whys: WW | WR, through: Why::Wr, back: &[WW | WR] },
    Level { whys: WW | WR | RW, through: Why::Rw, back: &[WW | WR, WW | WR | RW] },
    Level { whys: WW | RT, through: Why::Ww, back: &[WW | RT] },
    Level { whys: WW | WR | RT, through: Why::Wr, back: &[WW | WR | RT] },
    Level { whys: WW | WR | RW | RT, through: Why::Rw, back: &[WW | WR | RT, WW | WR | RW | RT] },
];

/// Reports the cycles of `graph`.
pub(super) fn check(history: &[Operation], orders: &Orders<'_>, graph: &Graph, findings: &mut Findings<'_>) {
    if components(graph, WW | WR | RW | RT).is_empty() {
        return;
    }
    let mut walk = Walk::new(graph);
    for level in &LEVELS {
        for component in components(graph, level.whys) {
            if let Some(cycle) = shortest(history, graph, level, &component, &mut walk) {
                let operations: Vec<u32> = cycle.iter().map(|edge| edge.from).collect();
                let keys: Vec<Key> = cycle.iter().filter_map(|edge| orders.keys.get(edge.key as usize)).map(|order| order.key).collect();
                findings.add(name(history, &cycle), &operations, &keys, || tell(history, orders, &cycle));
            }
        }
    }
}

/// The shortest cycle of `component` that `level` looks for, as its edges; those of real time lead from operation to operation.
fn shortest(history: &[Operation], graph: &Graph, level: &Level, component: &[u32], walk: &mut Walk) -> Option<Vec<Edge>> {
    walk.stay_in(component);
    let edges = component.iter().flat_map(|node| graph.places(*node)).map(|place| graph.edge(place));
    let mut starts: Vec<Edge> = edges.filter(|edge| edge.why == level.through && walk.is_inside(edge.to)).copied().collect();
    // An edge against real time is half of a cycle of two.
    if level.whys & RT != 0 {
        starts.sort_by_key(|edge| Reverse(is_before(history, edge.to, edge.from)));
    }
    level.back.iter().find_map(|&back| shortest_through(graph, starts.iter().take(TRIES_MAX), back, walk))
}

/// The shortest cycle of one of `starts` and a way `back`.
fn shortest_through<'e>(graph: &Graph, starts: impl Iterator<Item = &'e Edge>, back: u8, walk: &mut Walk) -> Option<Vec<Edge>> {
    let mut best: Option<Vec<Edge>> = None;
    walk.walked = 0;
    for start in starts {
        if let Some(cycle) = walk.back(graph, start, back)
            && best.as_ref().is_none_or(|best| cycle.len() < best.len())
        {
            best = Some(cycle);
        }
        if walk.walked > WALK_MAX || best.as_ref().is_some_and(|best| best.len() == 2) {
            break;
        }
    }
    best
}

fn is_before(history: &[Operation], one: u32, other: u32) -> bool {
    let (one, other) = (&history[one as usize], &history[other as usize]);
    one.outcome != Outcome::Unknown && one.completed < other.invoked
}

/// Breadth-first searches within a component. A way is at a node in one of two states: it has passed an edge of real time, or not.
struct Walk {
    /// For each node, the component that it was last found in.
    components: Vec<u32>,
    component: u32,
    /// For each state of each node, the search that came by last, and how it came.
    came: Vec<(u32, Came)>,
    searches: u32,
    /// How many edges were walked.
    walked: usize,
}

/// Over which edge, by its place, and in which state before it; nothing where the search began.
type Came = Option<(u32, bool)>;

impl Walk {
    fn new(graph: &Graph) -> Walk {
        let (components, came) = (vec![0; graph.nodes], vec![(0, None); 2 * graph.nodes]);
        Walk { components, component: 0, came, searches: 0, walked: 0 }
    }

    fn stay_in(&mut self, component: &[u32]) {
        self.component += 1;
        for node in component {
            self.components[*node as usize] = self.component;
        }
    }

    fn is_inside(&self, node: u32) -> bool {
        self.components[node as usize] == self.component
    }

    /// The shortest cycle of `start` and edges whose reasons are in `back`, real time included if it is.
    fn back(&mut self, graph: &Graph, start: &Edge, back: u8) -> Option<Vec<Edge>> {
        self.searches += 1;
        let goal = (start.from, back & RT != 0);
        let mut queue = VecDeque::from([((start.to, false), None)]);
        while let Some(((node, timed), came)) = queue.pop_front() {
            let slot = &mut self.came[state(node, timed)];
            if slot.0 == self.searches {
                continue;
            }
            *slot = (self.searches, came);
            if (node, timed) == goal {
                return Some(self.cycle(graph, start, goal));
            }
            self.walked += graph.places(node).len();
            for place in graph.places(node) {
                let edge = graph.edge(place);
                if edge.why as u8 & back == 0 || !self.is_inside(edge.to) {
                    continue;
                }
                let next = ((edge.to, timed || edge.why == Why::Rt), Some((place, timed)));
                // The way over barriers is one step, however many there are.
                if graph.is_operation(node) { queue.push_back(next) } else { queue.push_front(next) }
            }
        }
        None
    }

    /// The cycle whose search has come to `goal`.
    fn cycle(&self, graph: &Graph, start: &Edge, goal: (u32, bool)) -> Vec<Edge> {
        let mut edges = Vec::new();
        let (mut node, mut timed) = goal;
        let mut behind_barriers = None;
        while let Some((place, was_timed)) = self.came[state(node, timed)].1 {
            let edge = *graph.edge(place);
            if graph.is_operation(edge.from) {
                edges.push(Edge { to: behind_barriers.take().unwrap_or(edge.to), ..edge });
            } else {
                behind_barriers.get_or_insert(edge.to);
            }
            (node, timed) = (edge.from, was_timed);
        }
        edges.push(*start);
        edges.reverse();
        edges
    }
}

fn state(node: u32, timed: bool) -> usize {
    2 * node as usize + usize::from(timed)
}

/// What a cycle is called.
fn name(history: &[Operation], cycle: &[Edge]) -> Kind {
    let count = |why| cycle.iter().filter(|edge| edge.why == why).count();
    match (count(Why::Rt) > 0, count(Why::Rw), count(Why::Wr)) {
        (false, 0, 0) => Kind::DirtyWrite,
        (false, 0, _) => Kind::CircularFlow,
        (false, 1, _) => single(history, cycle),
        (false, ..) => Kind::WriteSkew,
        (true, 0, 0) => Kind::DirtyWriteInRealTime,
        (true, 0, _) => Kind::CircularFlowInRealTime,
        (true, 1, _) => Kind::StaleRead,
        (true, ..) => Kind::WriteSkewInRealTime,
    }
}

/// What a cycle is called in which one read missed something.
fn single(history: &[Operation], cycle: &[Edge]) -> Kind {
    if let [one, other] = cycle
        && one.key == other.key
        && (one.why == Why::Ww || other.why == Why::Ww)
    {
        return Kind::LostUpdate;
    }
    let missed = |edge: &Edge| (&history[edge.from as usize], &history[edge.to as usize]);
    let is_fractured = cycle.iter().filter(|edge| edge.why == Why::Rw).map(missed).any(|(reader, writer)| reader.sees_part_of(writer));
    if is_fractured { Kind::FracturedRead } else { Kind::ReadSkew }
}

/// Why each operation of a cycle comes before the next.
fn tell(history: &[Operation], orders: &Orders<'_>, cycle: &[Edge]) -> Vec<String> {
    let lines = cycle.iter().map(|&Edge { from, to, why, key, at }| {
        let order = orders.keys.get(key as usize);
        let (key, value) = order.map_or((0, 0), |order| (order.key, order.values[at as usize]));
        match why {
            Why::Ww => format!("#{from} before #{to} (ww): in key {key}, {value} of #{to} stands next after the append of #{from}"),
            Why::Wr => format!("#{from} before #{to} (wr): #{to} saw {value} of #{from} in key {key}"),
            Why::Rw => format!("#{from} before #{to} (rw): #{from} did not see {value} of #{to} in key {key}"),
            Why::Rt => {
                let (completed, invoked) = (history[from as usize].completed.as_secs_f64(), history[to as usize].invoked.as_secs_f64());
                format!("#{from} before #{to} (rt): #{from} was completed at {completed:.6} s, #{to} invoked at {invoked:.6} s")
            }
        }
    });
    lines.collect()
}
