//! Strongly connected components: the nodes that are on a cycle, by cycles that hang together (Tarjan 1972).

use super::graph::Graph;

/// The number of a node that has none.
const NONE: u32 = u32::MAX;

/// The components of more than one node, over those edges of `graph` whose reasons are in the set `whys`.
pub(super) fn components(graph: &Graph, whys: u8) -> Vec<Vec<u32>> {
    let mut search = Search {
        numbers: vec![NONE; graph.nodes],
        lowest: vec![NONE; graph.nodes],
        open: Vec::new(),
        numbered: 0,
        path: Vec::new(),
        found: Vec::new(),
    };
    for root in 0..graph.nodes as u32 {
        if search.numbers[root as usize] == NONE {
            search.enter(graph, root);
            search.run(graph, whys);
        }
    }
    search.found
}

/// Tarjan's search with its recursion laid out: histories are deep.
struct Search {
    /// In which order the nodes were entered.
    numbers: Vec<u32>,
    /// The lowest number of an open node that is known to be reachable; [`NONE`] again when the node's component is closed.
    lowest: Vec<u32>,
    /// Nodes whose component is not yet closed.
    open: Vec<u32>,
    numbered: u32,
    /// The nodes that are being looked at, each with the places of its edges that have yet to be.
    path: Vec<(u32, std::ops::Range<u32>)>,
    found: Vec<Vec<u32>>,
}

impl Search {
    fn enter(&mut self, graph: &Graph, node: u32) {
        self.numbers[node as usize] = self.numbered;
        self.lowest[node as usize] = self.numbered;
        self.numbered += 1;
        self.open.push(node);
        self.path.push((node, graph.places(node)));
    }

    fn run(&mut self, graph: &Graph, whys: u8) {
        while let Some((node, places)) = self.path.last_mut() {
            let node = *node;
            if places.start < places.end {
                let edge = graph.edge(places.start);
                places.start += 1;
                if edge.why as u8 & whys == 0 {
                    continue;
                }
                if self.numbers[edge.to as usize] == NONE {
                    self.enter(graph, edge.to);
                } else if self.lowest[edge.to as usize] != NONE {
                    self.lower(node, self.numbers[edge.to as usize]);
                }
            } else {
                self.path.pop();
                let lowest = self.lowest[node as usize];
                if let Some(&(parent, _)) = self.path.last() {
                    self.lower(parent, lowest);
                }
                if lowest == self.numbers[node as usize] {
                    self.close(node);
                }
            }
        }
    }

    fn lower(&mut self, node: u32, number: u32) {
        let lowest = &mut self.lowest[node as usize];
        *lowest = number.min(*lowest);
    }

    /// All that was opened since `first` is one component.
    fn close(&mut self, first: u32) {
        let from = self.open.iter().rposition(|node| *node == first).unwrap_or_default();
        for node in &self.open[from..] {
            self.lowest[*node as usize] = NONE;
        }
        if self.open.len() - from > 1 {
            self.found.push(self.open.split_off(from));
        } else {
            self.open.pop();
        }
    }
}
