//! Every client of the process, whichever worker serves it: admission, ids, and what `CLIENT LIST` walks.
//!
//! Shared by all workers, locked when a client comes or goes and when somebody lists; never by a command of the data path.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::client::{ClientShared, ClientState, Peer};
use super::pause::Pause;
use super::tracking::mail::Mailbox;

/// The clients that are connected now.
#[derive(Debug)]
pub struct ClientRegistry {
    clients_max: usize,
    table: Mutex<Table>,
    pause: Pause,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    /// By id, so that a listing is in the order of arrival.
    clients: BTreeMap<u64, Arc<ClientShared>>,
}

impl ClientRegistry {
    /// A registry that admits `clients_max` clients at a time.
    pub fn new(clients_max: usize) -> Self {
        Self { clients_max, table: Mutex::default(), pause: Pause::default() }
    }

    /// Takes a client in, unless there are too many. It is listed until the registration is dropped. `mailbox` is its worker's.
    pub fn admit(
        self: &Arc<Self>,
        peer: Peer,
        authenticated: bool,
        now: Instant,
        mailbox: &Arc<Mailbox>,
    ) -> Option<(ClientState, Registration)> {
        let mut table = self.lock();
        if table.clients.len() >= self.clients_max {
            return None;
        }
        table.last_id += 1;
        let id = table.last_id;
        let client = ClientState::new(id, peer, authenticated, now, Arc::clone(mailbox));
        table.clients.insert(id, Arc::clone(client.shared()));
        Some((client, Registration { registry: Arc::clone(self), id }))
    }

    /// Whether client `id` is connected.
    pub fn is_connected(&self, id: u64) -> bool {
        self.lock().clients.contains_key(&id)
    }

    /// Where news for client `id` are put, if it is connected.
    pub(super) fn mailbox(&self, id: u64) -> Option<Arc<Mailbox>> {
        self.lock().clients.get(&id).map(|client| client.mailbox())
    }

    /// How many clients are connected.
    pub fn connected(&self) -> usize {
        self.lock().clients.len()
    }

    /// How many may be.
    pub fn clients_max(&self) -> usize {
        self.clients_max
    }

    /// What CLIENT PAUSE asked for.
    pub fn pause(&self) -> &Pause {
        &self.pause
    }

    /// Kills the clients that `target` describes, but not `own`; how many, and whether it describes that one too.
    pub fn kill(&self, target: &KillTarget, own: u64) -> (usize, bool) {
        let table = self.lock();
        let mut met = (0, false);
        for client in table.clients.values().filter(|client| target.describes(client)) {
            match client.id == own {
                true => met.1 = true,
                false => {
                    client.kill();
                    met.0 += 1;
                }
            }
        }
        met
    }

    /// The lines of the clients that `filter` selects, oldest first. An id that names nobody is left out, as in Redis.
    pub fn list(&self, filter: &ClientFilter, now: Instant) -> Vec<u8> {
        let clients: Vec<_> = {
            let table = self.lock();
            match filter {
                ClientFilter::Ids(ids) => ids.iter().filter_map(|id| table.clients.get(id)).cloned().collect(),
                _ => table.clients.values().cloned().collect(),
            }
        };
        let mut out = Vec::new();
        for client in clients {
            let selected = match filter {
                ClientFilter::All | ClientFilter::Ids(_) => true,
                ClientFilter::Kind(kind) => kind.includes(&client),
            };
            if selected {
                client.write_line(&mut out, now);
            }
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which clients `CLIENT LIST` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFilter {
    /// All of them.
    All,
    /// Those of one kind.
    Kind(ClientKind),
    /// Those with these ids, in this order.
    Ids(Vec<u64>),
}

/// Redis's kinds of client. weft has no replication links, so two kinds are never met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// Anyone else.
    Normal,
    /// The link to a primary.
    Master,
    /// The link of a replica.
    Replica,
    /// A client with subscriptions.
    PubSub,
}

impl ClientKind {
    fn includes(self, client: &ClientShared) -> bool {
        match self {
            Self::Normal => !client.is_subscriber(),
            Self::PubSub => client.is_subscriber(),
            Self::Master | Self::Replica => false,
        }
    }
}

/// Whom `CLIENT KILL` means: what is not given says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillTarget {
    /// The client with this id.
    pub id: Option<u64>,
    /// Clients of one kind.
    pub kind: Option<ClientKind>,
    /// The client that came from this address.
    pub addr: Option<String>,
    /// Clients that came to this address.
    pub laddr: Option<String>,
}

impl KillTarget {
    fn describes(&self, client: &ClientShared) -> bool {
        let at = |wanted: &Option<String>, address: SocketAddr| wanted.as_ref().is_none_or(|wanted| *wanted == address.to_string());
        self.id.is_none_or(|id| id == client.id)
            && self.kind.is_none_or(|kind| kind.includes(client))
            && at(&self.addr, client.peer().addr)
            && at(&self.laddr, client.peer().laddr)
    }
}

/// A client's place in the registry, held by its session.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<ClientRegistry>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.lock().clients.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn no_more_clients_are_admitted_than_allowed_and_ids_are_never_reused() {
        let registry = Arc::new(ClientRegistry::new(2));
        let peer = Peer { addr: "127.0.0.1:1".parse().unwrap(), laddr: "127.0.0.1:2".parse().unwrap(), fd: 3 };
        let admit = || registry.admit(peer, true, Instant::now(), &Arc::default());
        let (first, first_place) = admit().unwrap();
        let (second, _second_place) = admit().unwrap();
        assert!(admit().is_none());
        assert_eq!((first.id(), second.id(), registry.connected()), (1, 2, 2));
        drop(first_place);
        assert_eq!(registry.connected(), 1);
        assert_eq!(admit().unwrap().0.id(), 3);
    }

    #[test]
    fn a_listing_shows_what_was_published_last() {
        let registry = Arc::new(ClientRegistry::new(1));
        let peer = Peer { addr: "[::1]:1".parse().unwrap(), laddr: "[::1]:2".parse().unwrap(), fd: 3 };
        let now = Instant::now();
        let (mut client, _place) = registry.admit(peer, true, now, &Arc::default()).unwrap();
        let shows = |field: &str| String::from_utf8(registry.list(&ClientFilter::All, now)).unwrap().contains(field);
        assert!(shows("addr=[::1]:1 ") && shows(" cmd=NULL "));
        client.begin("get", now);
        assert!(shows(" cmd=NULL "));
        client.publish();
        assert!(shows(" cmd=get "));
    }
}
