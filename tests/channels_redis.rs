//! channels_redis, unchanged, the channel layer that Django's applications use, through two proxies before shards that know nothing of each
//! other.
//!
//! A message to a group is one script over a key for each of its channels. Each receipt is a script that is told no keys at all, which puts
//! back what another had received when it died, and a wait; forgetting everything is a script over what KEYS finds. The preset
//! `channels_redis` keeps all of it on one shard.

use std::time::Duration;

use crate::support::{Flavor, Process, Shards, Weft, in_tests, venv};

/// The most that the program waits for, by far.
const PATIENCE: Duration = Duration::from_secs(180);

#[test]
fn every_message_arrives_once_with_the_preset() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let proxies = [0, 1].map(|_| Weft::setup(&shards).set("affinity", "[channels_redis]").start());
    let folder = tempfile::tempdir().unwrap();
    let mut command = venv("python");
    command.arg(in_tests("channels_redis/drive.py")).args(proxies.each_ref().map(|weft| weft.address().port().to_string()));
    Process::start("drive.py", command, folder.path().join("log")).must_succeed(PATIENCE);
    shards.servers().iter().for_each(|server| server.client().must_int("DBSIZE", 0));
}
