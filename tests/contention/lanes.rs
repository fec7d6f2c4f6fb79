//! Transactions over the same shards that have no key in common: many at once go together, and none of them is held up by another's lock.

use std::rc::Rc;

use super::{Held, PATIENT, counted, exec, is_record, must_have_no_locks, send_exec};
use crate::support::{Client, Flavor, Mode, PATIENCE, Reply, Shards, eventually};

/// All clients of one worker, so that it is known who goes with whom.
fn one_worker() -> Vec<(&'static str, u64)> {
    [PATIENT, &[("workers", 1)]].concat()
}

impl Held {
    /// Increments of two keys of its own, on both shards.
    fn own(&self, name: &str) -> Vec<String> {
        [0, 1].map(|shard| format!("INCR {}", self.shards.key_on(shard, name))).into()
    }

    /// Clients that have sent their transactions. One of them is under way, as the owner's is, and all others wait for company.
    fn many(&self, transactions: &[Vec<String>]) -> Vec<Client> {
        let mut clients: Vec<Client> = transactions.iter().map(|_| self.weft.client()).collect();
        clients.iter_mut().zip(transactions).for_each(|(client, commands)| send_exec(client, commands));
        let mut looker = self.weft.client();
        eventually(PATIENCE, "they wait for company", || counted(&mut looker, "lane_waits") == clients.len() - 1);
        clients
    }
}

#[test]
fn those_that_come_while_others_are_under_way_go_together() {
    let mut held = Held::start(&one_worker());
    let all: Vec<Vec<String>> = (0..10)
        .map(|index| {
            let mut commands = held.own(&format!("own{index}:"));
            // What fails, fails for itself.
            commands.push(commands[0].replace("INCR", "LLEN"));
            commands.push(format!("INCRBY {} {index}", commands[1].replace("INCR ", "")));
            commands
        })
        .collect();
    let mut clients = held.many(&all);
    held.release();
    for (index, client) in clients.iter_mut().enumerate() {
        let reply = client.receive();
        let Some([Reply::Integer(1), Reply::Integer(1), Reply::Error(wrong), sum]) = reply.items() else { panic!("{reply:?}") };
        assert!(wrong.starts_with("WRONGTYPE"), "{wrong}");
        assert_eq!(*sum, Reply::Integer(1 + index as i64));
    }
    // The owner's, that of whoever did not have to wait, and one for all who did.
    for shard in [0, 1] {
        let records = held.shards.internal_keys().into_iter().filter(|(at, name)| *at == shard && is_record(name)).count();
        assert!(records <= 3, "{records} transactions");
    }
    must_have_no_locks(&held.shards);
}

#[test]
fn who_meets_a_lock_at_a_shard_holds_up_none_of_its_company() {
    let shards = Rc::new(Shards::start(Mode::Static, Flavor::Redis, 2));
    // It holds its locks until it is released.
    let mut theirs = Held::over(&shards, "k", &[PATIENT, &[("upstream.reply_timeout_ms", 60_000)]].concat());
    let mut ours = Held::over(&shards, "other", &one_worker());
    let mut clients = ours.many(&[ours.own("first"), ours.own("before"), theirs.increments(), ours.own("behind")]);
    ours.release();
    for index in [0, 1, 3] {
        assert_eq!(clients[index].receive(), Reply::array([1, 1]));
    }
    // And those that come later.
    assert_eq!(exec(&mut ours.weft.client(), &ours.own("later")), Reply::array([1, 1]));
    theirs.release();
    assert_eq!(clients[2].receive(), Reply::array([2, 2]));
    must_have_no_locks(&shards);
}
