//! Slots that move while weft still believes in an old map: redirects are followed, watches are lost, nothing is done twice.

use weft::slot::Slot;

use super::*;
use crate::support::{Args as _, Fault, FaultProxy, PATIENCE, Server, Way, eventually};

/// A slot on its way from one node of a cluster to another, key by key, as `redis-cli --cluster reshard` moves it.
pub(crate) struct Move<'a> {
    shards: &'a Shards,
    slot: usize,
    source: &'a Server,
    target: &'a Server,
}

impl<'a> Move<'a> {
    /// The slot of `key` begins to move.
    pub(crate) fn begin(shards: &'a Shards, key: &str, source: usize, target: usize) -> Self {
        let servers = shards.servers();
        let this = Self { shards, slot: Slot::of(key.as_bytes()).index(), source: &servers[source], target: &servers[target] };
        this.target.client().must_ok(&format!("CLUSTER SETSLOT {} IMPORTING {}", this.slot, id(this.source)));
        this.source.client().must_ok(&format!("CLUSTER SETSLOT {} MIGRATING {}", this.slot, id(this.target)));
        this
    }

    /// All its keys move, weft's own among them.
    pub(crate) fn move_keys(&self) {
        let mut source = self.source.client();
        loop {
            let names = source.call(&format!("CLUSTER GETKEYSINSLOT {} 100", self.slot));
            let names: Vec<_> = names.items().unwrap().iter().filter_map(Reply::text).collect();
            if names.is_empty() {
                return;
            }
            names.iter().for_each(|name| self.move_key(name));
        }
    }

    /// One key moves, if it is there: a lock may have been given back meanwhile.
    pub(crate) fn move_key(&self, name: &str) {
        let port = self.target.address().port().to_string();
        let moved = self.source.client().call(&["MIGRATE", "127.0.0.1", &port, name, "0", "5000"]);
        assert!([Reply::ok(), Reply::Simple("NOKEY".to_owned())].contains(&moved), "{moved:?}");
    }

    /// The slot has moved.
    pub(crate) fn finish(self) {
        let owner = id(self.target);
        let others = self.shards.servers().iter().filter(|server| server.address() != self.target.address());
        for server in std::iter::once(self.target).chain(others) {
            server.client().must_ok(&format!("CLUSTER SETSLOT {} NODE {owner}", self.slot));
        }
    }
}

/// The slot of `key` moves from the second node to the third.
fn move_away(shards: &Shards, key: &str) {
    let moving = Move::begin(shards, key, 1, 2);
    moving.move_keys();
    moving.finish();
}

fn id(server: &Server) -> String {
    server.client().call("CLUSTER MYID").text().unwrap()
}

/// A cluster, a weft that asks it for its map only when a redirect tells it to, and keys on two of its nodes.
fn settled() -> (Shards, Weft, Vec<String>) {
    let shards = Shards::start(Mode::Cluster, Flavor::Redis, 3);
    let (weft, keys) = (setup(&shards).believing_its_map().start(), keys(&shards, 2, "k"));
    (shards, weft, keys)
}

#[test]
fn a_redirect_is_followed_by_plain_commands_and_by_transactions() {
    let (shards, weft, keys) = settled();
    let mut client = weft.client();
    client.must_ok(&format!("SET {} 1", keys[1]));

    let moving = Move::begin(&shards, &keys[1], 1, 2);
    moving.move_keys();
    // ASK: the key is at the target already, the slot is not.
    client.must_bulk(&format!("GET {}", keys[1]), "1");
    moving.finish();

    // MOVED, for each of a pipeline.
    let key = &keys[1];
    client.send_raw(format!("GET {key}\r\nINCR {key}\r\nINCR {key}\r\nGET {key}\r\n"));
    let replies: Vec<Reply> = (0..4).map(|_| client.receive()).collect();
    assert_eq!(replies, ["1".into(), Reply::Integer(2), Reply::Integer(3), "3".into()]);
    send_transaction(&mut client, increments(&keys));
    assert_eq!(client.receive(), integers([1, 4]));
    must_have_no_locks(&shards);
}

/// Two locks are looked at before it is read, its own and that of its hash tag. Where neither is, the node that takes the slot over would
/// have whoever asks for both at once come again later.
#[test]
fn a_key_with_a_hash_tag_is_read_while_its_slot_is_on_its_way() {
    let (shards, weft, keys) = settled();
    let (mut client, key) = (weft.client(), format!("{{{}}}x", keys[1]));
    client.must_ok(&format!("SET {key} 1"));
    let moving = Move::begin(&shards, &key, 1, 2);
    client.must_bulk(&format!("GET {key}"), "1");
    moving.move_keys();
    client.must_bulk(&format!("GET {key}"), "1");
    moving.finish();
    client.must_bulk(&format!("GET {key}"), "1");
}

#[test]
fn a_transaction_over_a_slot_that_has_moved_since_is_carried_out_once() {
    let (shards, weft, keys) = settled();
    let mut client = weft.client();
    client.must_ok(&format!("SET {} 1", keys[1]));
    move_away(&shards, &keys[1]);
    send_transaction(&mut client, increments(&keys));
    assert_eq!(client.receive(), integers([1, 2]));
    must_have_no_locks(&shards);
}

#[test]
fn what_meets_a_slot_half_way_waits_until_it_has_moved() {
    let (shards, weft, keys) = settled();
    let mut clients = [weft.client(), weft.client()];
    clients[0].must_ok(&format!("MSET {} 1 {} 1", keys[0], keys[1]));

    // The key is still at the source, its locks would have to be at the target.
    let moving = Move::begin(&shards, &keys[1], 1, 2);
    clients[0].send(&format!("MGET {} {}", keys[0], keys[1]));
    clients[0].must_stay_silent(Duration::from_millis(200));
    send_transaction(&mut clients[1], increments(&keys));
    clients[1].must_stay_silent(Duration::from_millis(200));
    moving.move_keys();
    moving.finish();
    let seen = clients[0].receive();
    assert!(seen == Reply::array(["1", "1"]) || seen == Reply::array(["2", "2"]), "{seen:?}");
    assert_eq!(clients[1].receive(), integers([2, 2]));
    must_have_no_locks(&shards);
}

/// A node that has some keys of a slot would tell the script in the middle of it that the others are elsewhere.
#[test]
fn a_script_runs_when_its_slot_is_all_in_one_place() {
    const RAISE_BOTH: &str = "redis.call('INCR', KEYS[1]) return redis.call('INCR', KEYS[1] .. ':undeclared')";
    let mut shards = Shards::start(Mode::Cluster, Flavor::Redis, 3);
    let proxies: Vec<FaultProxy> = shards.servers().iter().map(|server| FaultProxy::start(server.address())).collect();
    shards.announce(&proxies);
    let weft = setup(&shards).start();
    let mut client = weft.client();
    let [other, one, two] = ["other", "one", "two"].map(|name| shards.key_on(usize::from(name != "other"), name));
    // Alone, when it has looked at its locks; in a transaction over shards, when that is prepared.
    for (alone, tag) in [(true, one), (false, two)] {
        let (key, undeclared) = (format!("{{{tag}}}"), format!("{{{tag}}}:undeclared"));
        client.must_int(&["EVAL", RAISE_BOTH, "1", &key], 1);
        let commands = [format!("INCR {other}").args(), ["EVAL", RAISE_BOTH, "1", &key].args()];
        if !alone {
            client.must_ok("MULTI");
            commands.iter().for_each(|command| client.must_queue(command.as_slice()));
        }
        proxies[1].set(Way::Requests, "MULTI\r\n", Fault::Hold);
        let last = if alone { commands[1].clone() } else { "EXEC".args() };
        client.send(last.as_slice());
        proxies[1].must_spring();
        let moving = Move::begin(&shards, &key, 1, 2);
        moving.move_key(&undeclared);
        proxies[1].release();
        client.must_stay_silent(Duration::from_millis(200));
        moving.move_keys();
        moving.finish();
        assert_eq!(client.receive(), if alone { Reply::Integer(2) } else { Reply::array([1, 2]) });
        client.must_reply(&format!("MGET {key} {undeclared}"), Reply::array(["2", "2"]));
    }
    must_have_no_locks(&shards);
}

#[test]
fn a_watch_on_a_slot_that_has_moved_is_broken() {
    let (shards, weft, keys) = settled();
    let mut client = weft.client();
    // The second does not exist: its server forgets nothing when the slot leaves.
    client.must_ok(&format!("WATCH {} {}", keys[0], keys[1]));
    move_away(&shards, &keys[1]);
    send_transaction(&mut client, increments(&keys));
    assert_eq!(client.receive(), Reply::NilArray);
    client.must_reply(&format!("MGET {} {}", keys[0], keys[1]), Reply::Array(vec![Reply::Nil, Reply::Nil]));
    must_have_no_locks(&shards);
}

#[test]
fn a_transaction_that_is_prepared_moves_with_its_slot_when_that_moves_in_one_piece() {
    let shards = Shards::start(Mode::Cluster, Flavor::Valkey, 3);
    let keys = keys(&shards, 2, "k");
    let weft = setup(&shards).start();
    let mut doomed = setup(&shards).env("WEFT_FAILPOINT", "before-commit").start();
    send_transaction(&mut doomed.client(), increments(&keys));
    doomed.process().must_exit();
    let (slot, servers) = (Slot::of(keys[1].as_bytes()).index(), shards.servers());
    servers[1].client().must_ok(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {}", id(&servers[2])));
    let mut client = weft.client();
    client.must_int(&format!("INCR {}", keys[0]), 2);
    client.must_int(&format!("INCR {}", keys[1]), 2);
    let mut target = servers[2].client();
    eventually(PATIENCE, "the slot has moved", || target.call(&format!("GET {}", keys[1])) == Reply::from("2"));
    // And one that begins afterwards.
    send_transaction(&mut client, increments(&keys));
    assert_eq!(client.receive(), integers([3, 3]));
    must_have_no_locks(&shards);
}
