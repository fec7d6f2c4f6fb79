//! Asking nodes what they know: the control plane's own connections, apart from those that carry clients' commands.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, Value};
use tokio::time::{Instant, timeout, timeout_at};

use super::discovery::{self, DiscoveryError};
use super::facts::{ServerFacts, Unfit};
use super::slot_map::{Mode, SlotMap};
use crate::config::UpstreamConfig;
use crate::node_addr::NodeAddr;

/// What one node told.
pub(super) struct Answer {
    pub(super) facts: ServerFacts,
    /// Only if the node was asked for it.
    pub(super) view: Option<View>,
}

/// A cluster as one of its nodes sees it.
pub(super) struct View {
    /// The cluster's own `currentEpoch`, highest at the nodes that know most.
    pub(super) cluster_epoch: u64,
    pub(super) map: SlotMap,
}

/// Why a node gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The connection or a command failed.
    #[error("{0}")]
    Redis(#[from] redis::RedisError),
    /// What came is no reply to what was asked.
    #[error("{0}")]
    Discovery(#[from] DiscoveryError),
    /// `INFO` tells no version.
    #[error("it does not answer INFO as Redis does")]
    NotRedis,
    /// It is not a server weft can use.
    #[error("{0}")]
    Unfit(#[from] Unfit),
}

impl AskError {
    /// Whether it will be so until somebody changes the configuration or the server; anything else may pass by itself.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Unfit(_) | Self::NotRedis => true,
            Self::Redis(error) => error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "NOPERM")),
            Self::TimedOut(_) | Self::Discovery(_) => false,
        }
    }
}

/// What a node is asked for, beside its facts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Nothing more.
    Facts,
    /// Its view of the cluster.
    View,
}

/// Connections to the nodes that were asked before.
pub(super) struct Inquiry {
    upstream: UpstreamConfig,
    mode: Mode,
    connections: HashMap<NodeAddr, MultiplexedConnection>,
}

impl Inquiry {
    pub(super) fn new(upstream: UpstreamConfig, mode: Mode) -> Self {
        Self { upstream, mode, connections: HashMap::new() }
    }

    /// Asks all at once. Once one has answered, the others get `grace` more: a dead node must not delay what the living know. Nodes that
    /// did not answer by then are missing from the result.
    pub(super) async fn ask(&mut self, nodes: Vec<(NodeAddr, Question)>, grace: Duration) -> Vec<(NodeAddr, Result<Answer, AskError>)> {
        let mut pending: FuturesUnordered<_> = nodes
            .into_iter()
            .map(|(node, question)| {
                let connection = self.connections.remove(&node);
                let (upstream, mode) = (&self.upstream, self.mode);
                async move {
                    let asked = timeout(upstream.connect_timeout, ask_one(upstream, mode, connection, &node, question)).await;
                    (node, asked.unwrap_or(Err(AskError::TimedOut(upstream.connect_timeout))))
                }
            })
            .collect();
        let mut deadline = Instant::now() + self.upstream.connect_timeout * 2;
        let mut answers = Vec::new();
        let mut connections = Vec::new();
        while let Ok(Some((node, asked))) = timeout_at(deadline, pending.next()).await {
            let answer = asked.map(|(connection, answer)| {
                deadline = deadline.min(Instant::now() + grace);
                connections.push((node.clone(), connection));
                answer
            });
            answers.push((node, answer));
        }
        drop(pending);
        self.connections.extend(connections);
        answers
    }
}

async fn ask_one(
    upstream: &UpstreamConfig,
    mode: Mode,
    connection: Option<MultiplexedConnection>,
    node: &NodeAddr,
    question: Question,
) -> Result<(MultiplexedConnection, Answer), AskError> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => connect(upstream, node).await?,
    };
    let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
    let facts = ServerFacts::from_info(&info).ok_or(AskError::NotRedis)?;
    facts.check(mode)?;
    let view = match question {
        Question::Facts => None,
        Question::View => Some(View {
            map: match redis::cmd("CLUSTER").arg("SHARDS").query_async::<Value>(&mut connection).await {
                Ok(reply) => discovery::from_shards(&reply, node)?,
                // Denied or renamed, as some managed services do.
                Err(error) if error.is_io_error() => return Err(error.into()),
                Err(_) => discovery::from_slots(&redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?, node)?,
            },
            cluster_epoch: redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await.map_or(0, |info: String| epoch_of(&info)),
        }),
    };
    Ok((connection, Answer { facts, view }))
}

async fn connect(upstream: &UpstreamConfig, node: &NodeAddr) -> Result<MultiplexedConnection, AskError> {
    let mut settings = RedisConnectionInfo::default().set_lib_name("weft", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &upstream.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &upstream.password {
        settings = settings.set_password(password.expose());
    }
    let address = ConnectionAddr::Tcp(node.host().to_owned(), node.port());
    let client = Client::open(address.into_connection_info()?.set_redis_settings(settings))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(upstream.connect_timeout))
        .set_response_timeout(Some(upstream.reply_timeout));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

fn epoch_of(info: &str) -> u64 {
    info.lines().find_map(|line| line.trim_end().strip_prefix("cluster_current_epoch:")?.parse().ok()).unwrap_or(0)
}
