//! The control plane: one task that keeps the current [`SlotMap`] and what the servers say of themselves.
//!
//! It asks periodically, and soon when somebody asks for it: [`Topology::request_refresh`] costs an atomic operation, requests that come
//! while one is being served are one, and [`REFRESH_PAUSE`] lies between two rounds, so that a storm of redirects is not a storm of
//! questions. Several nodes are asked in each round, because any one may be cut off from the others and not know it: the view with the
//! highest cluster epoch wins, then the one that covers most slots, then the one most nodes share. While no node answers, the last
//! map stays: its shards may still serve.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{info, warn};

use super::facts::ServerFacts;
use super::inquiry::{Answer, AskError, Inquiry, Question, View};
use super::placement;
use super::slot_map::{Mode, SlotMap};
use crate::config::{ClusterConfig, TopologyConfig, UpstreamConfig};
use crate::node_addr::NodeAddr;
use crate::slot::SLOT_COUNT;

/// A handle on the control plane; every clone sees the same. The task ends with the last one.
#[derive(Clone)]
pub struct Topology {
    /// Sent by [`Control`].
    map: watch::Receiver<Arc<SlotMap>>,
    /// Sent by [`Control`].
    facts: watch::Receiver<Arc<Facts>>,
    /// [`Control`] waits on it between rounds.
    wake: Arc<Notify>,
    _task: Arc<AbortOnDrop>,
}

/// What the primaries say of themselves. A server that never answered is missing; one that stopped answering keeps its last word.
pub type Facts = BTreeMap<NodeAddr, ServerFacts>;

/// Servers that answer, and that weft must not use: waiting for them to become others would be in vain.
#[derive(Debug, thiserror::Error)]
#[error("unfit shards: {}", list(.0))]
pub struct UnfitShards(Vec<(NodeAddr, AskError)>);

impl Topology {
    /// Learns the first map and keeps it current by a task on the runtime this is called on.
    ///
    /// Who is away may come later, as when everything is started at once. Static shards are not waited for: those that answer must be
    /// primaries outside any cluster. Of a cluster's seeds one must have answered before there is a map, so this waits for it.
    ///
    /// # Errors
    /// A static shard, or each of the seeds, is a server that weft cannot use.
    pub async fn start(config: &TopologyConfig, upstream: &UpstreamConfig) -> Result<Self, UnfitShards> {
        let (source, map) = match config {
            TopologyConfig::Static(fixed) => (Source::Static, placement::place(fixed)),
            TopologyConfig::Cluster(cluster) => (Source::Cluster(cluster.clone()), SlotMap::new(Mode::Cluster, Vec::new())),
        };
        let mut control = Control {
            inquiry: Inquiry::new(upstream.clone(), map.mode()),
            source,
            map: watch::Sender::new(Arc::new(map.with_epoch(1))),
            facts: watch::Sender::new(Arc::default()),
            silent: HashSet::new(),
            round: 0,
        };
        control.first_rounds(upstream.connect_timeout).await?;
        let (map, facts, wake) = (control.map.subscribe(), control.facts.subscribe(), Arc::new(Notify::new()));
        let task = tokio::spawn(control.run(Arc::clone(&wake)));
        Ok(Self { map, facts, wake, _task: Arc::new(AbortOnDrop(task.abort_handle())) })
    }

    /// The newest map.
    pub fn current(&self) -> Arc<SlotMap> {
        Arc::clone(&self.map.borrow())
    }

    /// A receiver of every newer map.
    pub fn subscribe(&self) -> watch::Receiver<Arc<SlotMap>> {
        self.map.clone()
    }

    /// The first map newer than `epoch`. Pending for ever if the control plane has ended.
    pub async fn changed_since(&self, epoch: u64) -> Arc<SlotMap> {
        let mut map = self.map.clone();
        match map.wait_for(|map| map.epoch() > epoch).await {
            Ok(map) => Arc::clone(&map),
            Err(_) => std::future::pending().await,
        }
    }

    /// Says that something hints at a change. Cheap, from any thread, as often as there is a hint.
    pub fn request_refresh(&self) {
        self.wake.notify_one();
    }

    /// What the primaries say of themselves.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.facts.borrow())
    }
}

/// The least time between two rounds of questions.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);

enum Source {
    Static,
    Cluster(ClusterConfig),
}

struct Control {
    inquiry: Inquiry,
    source: Source,
    map: watch::Sender<Arc<SlotMap>>,
    facts: watch::Sender<Arc<Facts>>,
    /// Nodes that gave no usable answer when last asked, so that each silence is logged once.
    silent: HashSet<NodeAddr>,
    /// Rounds so far: which nodes are asked for their view rotates with it.
    round: usize,
}

impl Control {
    /// The first round asks whom the configuration names, until there is a map; the second the primaries these named.
    async fn first_rounds(&mut self, patience: Duration) -> Result<(), UnfitShards> {
        loop {
            let questions = self.questions();
            let asked = questions.len();
            let answers = self.inquiry.ask(questions, patience).await;
            let unfit: Vec<_> = self.take_in(answers).into_iter().filter(|(_, error)| error.is_lasting()).collect();
            match self.source {
                Source::Static => return if unfit.is_empty() { Ok(()) } else { Err(UnfitShards(unfit)) },
                Source::Cluster(_) if !self.map.borrow().shards().is_empty() => {
                    self.round().await;
                    return Ok(());
                }
                Source::Cluster(_) if unfit.len() == asked => return Err(UnfitShards(unfit)),
                Source::Cluster(_) => sleep(REFRESH_PAUSE).await,
            }
        }
    }

    async fn run(mut self, wake: Arc<Notify>) {
        let interval = match &self.source {
            Source::Static => ClusterConfig::REFRESH_INTERVAL,
            Source::Cluster(config) => config.refresh_interval,
        };
        loop {
            sleep(REFRESH_PAUSE).await;
            tokio::select! {
                () = wake.notified() => {}
                () = sleep(interval) => {}
            }
            self.round().await;
        }
    }

    async fn round(&mut self) {
        self.round = self.round.wrapping_add(1);
        let answers = self.inquiry.ask(self.questions(), GRACE).await;
        self.take_in(answers);
    }

    /// Every primary for its facts; in a cluster, up to [`VIEWS_MAX`] of them and of the seeds, in turn, for their view.
    fn questions(&self) -> Vec<(NodeAddr, Question)> {
        let map = self.map.borrow();
        let mut nodes: Vec<NodeAddr> = map.shards().iter().map(|shard| shard.address.clone()).collect();
        let Source::Cluster(config) = &self.source else {
            return nodes.into_iter().map(|node| (node, Question::Facts)).collect();
        };
        let primaries = nodes.len();
        for seed in &config.seeds {
            if !nodes.contains(seed) {
                nodes.push(seed.clone());
            }
        }
        let count = nodes.len();
        let turn = |index: usize| (index + count - self.round * VIEWS_MAX % count) % count;
        let question = |index: usize| if turn(index) < VIEWS_MAX { Question::View } else { Question::Facts };
        let asked = nodes.into_iter().enumerate().map(|(index, node)| (index, node, question(index)));
        // A seed that is no primary is only asked for its view.
        asked.filter(|(index, _, question)| *index < primaries || *question == Question::View).map(|(_, node, q)| (node, q)).collect()
    }

    /// Publishes what the answers changed; returns the failures.
    fn take_in(&mut self, answers: Vec<(NodeAddr, Result<Answer, AskError>)>) -> Vec<(NodeAddr, AskError)> {
        let mut facts = Facts::clone(&self.facts.borrow());
        let (mut views, mut failed) = (Vec::new(), Vec::new());
        for (node, answer) in answers {
            match answer {
                Ok(answer) => {
                    if self.silent.remove(&node) {
                        info!(%node, "the server answers again");
                    }
                    views.extend(answer.view);
                    facts.insert(node, answer.facts);
                }
                Err(error) => {
                    if self.silent.insert(node.clone()) {
                        warn!(%node, %error, "the server gives no usable answer");
                    }
                    failed.push((node, error));
                }
            }
        }
        if let Some(map) = best(views) {
            self.publish(map);
        }
        let map = Arc::clone(&self.map.borrow());
        facts.retain(|node, _| map.shards().iter().any(|shard| shard.address == *node));
        self.facts.send_if_modified(|current| {
            let modified = **current != facts;
            if modified {
                *current = Arc::new(facts);
            }
            modified
        });
        failed
    }

    fn publish(&self, map: SlotMap) {
        self.map.send_if_modified(|current| {
            if current.agrees_with(&map) {
                return false;
            }
            let map = map.with_epoch(current.epoch() + 1);
            info!(epoch = map.epoch(), shards = map.shards().len(), "the cluster has a new slot map");
            if map.covered() < usize::from(SLOT_COUNT) {
                warn!(covered = map.covered(), of = SLOT_COUNT, "some slots have no owner");
            }
            *current = Arc::new(map);
            true
        });
    }
}

/// The view to believe.
fn best(views: Vec<View>) -> Option<SlotMap> {
    let rank = |view: &View| {
        let sharing = views.iter().filter(|other| other.map.agrees_with(&view.map)).count();
        (view.cluster_epoch, view.map.covered(), sharing)
    };
    let best = (0..views.len()).max_by_key(|index| rank(&views[*index]))?;
    views.into_iter().nth(best).map(|view| view.map)
}

fn list(failed: &[(NodeAddr, AskError)]) -> String {
    let lines: Vec<String> = failed.iter().map(|(node, error)| format!("{node}: {error}")).collect();
    lines.join("; ")
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long the others are waited for once one has answered: a few round trips between data centres.
const GRACE: Duration = Duration::from_millis(250);

/// How many views a round collects. A view grows with the cluster; asking every node would grow with its square.
const VIEWS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::topology::Shard;

    fn view(cluster_epoch: u64, name: &str, last_slot: u16) -> View {
        let shard = Shard { name: name.into(), address: NodeAddr::new("h", 1).unwrap(), replicas: vec![] };
        View { cluster_epoch, map: SlotMap::new(Mode::Cluster, vec![(shard, vec![0..=last_slot])]) }
    }

    fn best_name(views: Vec<View>) -> Option<String> {
        best(views).map(|map| map.shards()[0].name.clone())
    }

    #[test]
    fn the_newest_then_fullest_then_most_shared_view_is_believed() {
        assert_eq!(best_name(vec![]), None);
        assert_eq!(best_name(vec![view(3, "old", 16383), view(4, "new", 9)]).unwrap(), "new");
        assert_eq!(best_name(vec![view(3, "partial", 9), view(3, "full", 16383), view(3, "partial", 9)]).unwrap(), "full");
        assert_eq!(best_name(vec![view(3, "many", 9), view(3, "one", 9), view(3, "many", 9)]).unwrap(), "many");
    }
}
