//! CLIENT KILL and CLIENT PAUSE: what one client may do to others.

use crate::support::{Client, Flavor, PATIENCE, Reply, Shards, Weft, eventually};

fn id(client: &mut Client) -> i64 {
    let Reply::Integer(id) = client.call("CLIENT ID") else { panic!("CLIENT ID answers a number") };
    id
}

/// Waits until `count` clients are blocked, or paused.
#[track_caller]
fn until_held(client: &mut Client, count: usize) {
    let line = format!("blocked_clients:{count}\r\n");
    eventually(PATIENCE, "they are held back", || client.call("INFO clients").text().is_some_and(|info| info.contains(&line)));
}

#[test]
fn a_client_is_killed_whatever_it_is_doing() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let [a, b] = [0, 1].map(|index| shards.key_on(index, "k"));
    let mut other = weft.client();
    let kills: [(&str, &[&str]); 5] = [
        ("nothing", &[]),
        ("waiting for a key", &["BLPOP q 0"]),
        ("listening", &["SUBSCRIBE c"]),
        ("watching", &["WATCH {a} {b}"]),
        ("in a transaction", &["MULTI", "SET {a} 1"]),
    ];
    for (doing, commands) in kills {
        let mut victim = weft.client();
        let id = id(&mut victim);
        for command in commands {
            let command = command.replace("{a}", &a).replace("{b}", &b);
            victim.send(&command);
            if !command.starts_with("BLPOP") {
                victim.receive();
            }
        }
        if doing == "waiting for a key" {
            until_held(&mut other, 1);
        }
        other.must_int(&format!("CLIENT KILL ID {id}"), 1);
        victim.must_be_closed();
        eventually(PATIENCE, doing, || other.call(&format!("CLIENT LIST ID {id}")) == Reply::from(""));
        other.must_int(&format!("CLIENT KILL ID {id}"), 0);
    }
    // What the one who waited would have got is still there.
    other.must_int("RPUSH q v", 1);
    other.must_int("LLEN q", 1);
    other.must_int(&format!("EXISTS {a} {b}"), 0);
}

#[test]
fn clients_are_killed_by_address_and_by_kind_and_the_one_who_asks_is_spared() {
    let shards = Shards::fixed(Flavor::Redis, 1);
    let weft = Weft::start(&shards);
    let mut other = weft.client();
    let mut victim = weft.client();
    assert!(victim.answers());
    other.must_ok(&format!("CLIENT KILL {}", victim.local_address()));
    victim.must_be_closed();
    let mut listener = weft.client();
    listener.call("SUBSCRIBE c");
    let mut victim = weft.client();
    assert!(victim.answers());
    other.must_int("CLIENT KILL TYPE pubsub", 1);
    listener.must_be_closed();
    assert!(victim.answers());
    other.must_int("CLIENT KILL TYPE normal", 1);
    victim.must_be_closed();
    assert!(other.answers());
    other.must_int("CLIENT KILL TYPE normal SKIPME no", 1);
    other.must_be_closed();
    assert!(weft.client().answers());
}

#[test]
fn while_writes_are_paused_reads_go_on() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let [a, b] = [0, 1].map(|index| shards.key_on(index, "k"));
    let (mut operator, mut other) = (weft.client(), weft.client());
    operator.must_ok("CLIENT PAUSE 100000 WRITE");
    let commands = [
        format!("SET {a} 1"),
        format!("MSET {a} 1 {b} 1"),
        "PUBLISH c m".to_owned(),
        format!("EVAL return(1) 1 {a}"),
        "FLUSHALL".to_owned(),
    ];
    let mut held: Vec<Client> = commands
        .iter()
        .map(|command| {
            let mut client = weft.client();
            client.send(command);
            client
        })
        .collect();
    // A transaction is held at its first write; one that only reads is not.
    other.must_ok("MULTI");
    other.must_queue(&format!("GET {a}"));
    other.must_reply("EXEC", Reply::Array(vec![Reply::Nil]));
    other.must_ok("MULTI");
    other.send(&format!("SET {b} 1"));
    until_held(&mut operator, commands.len() + 1);
    operator.must_reply(&format!("MGET {a} {b}"), Reply::Array(vec![Reply::Nil, Reply::Nil]));
    // Who goes away while it is held leaves nothing behind.
    drop(held.remove(4));
    drop(held.remove(1));
    until_held(&mut operator, commands.len() - 1);
    operator.must_ok("CLIENT UNPAUSE");
    let replies: Vec<Reply> = held.iter_mut().map(Client::receive).collect();
    assert_eq!(replies, [Reply::ok(), 0.into(), 1.into()]);
    assert_eq!(other.receive(), Reply::Simple("QUEUED".into()));
    other.must_reply("EXEC", Reply::array([Reply::ok()]));
    operator.must_reply(&format!("MGET {a} {b}"), Reply::array(["1", "1"]));
}

#[test]
fn while_all_is_paused_everything_waits_until_it_ends_by_itself() {
    let shards = Shards::fixed(Flavor::Redis, 1);
    let weft = Weft::start(&shards);
    let (mut operator, mut other) = (weft.client(), weft.client());
    assert!(other.answers());
    let begin = std::time::Instant::now();
    operator.send_raw("CLIENT PAUSE 300\r\nPING\r\n");
    assert_eq!(operator.receive(), Reply::ok());
    other.must_reply("PING", Reply::Simple("PONG".into()));
    assert_eq!(operator.receive(), Reply::Simple("PONG".into()));
    assert!(begin.elapsed().as_millis() >= 300);
    assert!(other.answers());
}
