//! How much memory weft takes, measured from outside: what the kernel says of the process (VmRSS, VmHWM), against bounds that are stated
//! here. Sockets are the kernel's and not counted.
//!
//! `WEFT_MANY=10000 cargo test --test main memory -- --nocapture` takes as many clients and prints what they cost.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Client, Flavor, PATIENCE, Reply, Shards, Weft, encode, eventually};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// How many clients are many: as many as a test has time for, unless somebody says otherwise.
fn many() -> usize {
    std::env::var("WEFT_MANY").map_or(2000, |many| many.parse().unwrap())
}

/// Lets this process and those that it starts have as many descriptors as they may.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    assert!(limit.maximum.is_none_or(|most| most > many() as u64 + 500), "`ulimit -Hn` is too low for so many clients");
}

#[test]
fn an_idle_client_costs_little() {
    allow_descriptors();
    let shards = Shards::fixed(Flavor::Redis, 3);
    let mut weft = Weft::setup(&shards).set("limits.clients_max", 20_000).start();
    let mut clients = Vec::new();
    let grow = |clients: &mut Vec<Client>, weft: &Weft, count: usize| {
        while clients.len() < count {
            let (mut client, number) = (weft.client(), clients.len());
            client.must_ok(&["SET", &format!("k{number}"), &"v".repeat(64)]);
            client.must_bulk(&format!("GET k{number}"), &"v".repeat(64));
            clients.push(client);
        }
    };
    // The first ones pay for connections to the shards, for code and for tables.
    let few = many() / 10;
    grow(&mut clients, &weft, few);
    let before = weft.process().memory();
    grow(&mut clients, &weft, few + many());
    let cost = (weft.process().memory() - before) / many() as u64;
    println!("{} idle clients: {cost} bytes each", many());
    assert!(cost <= 6 * KIB, "{cost} bytes");
}

#[test]
fn what_a_burst_has_needed_is_given_back() {
    let shards = Shards::fixed(Flavor::Redis, 1);
    let mut weft = Weft::start(&shards);
    weft.client().must_ok(&["SET", "k", &"v".repeat(1000)]);
    let mut clients: Vec<Client> = (0..200).map(|_| weft.client()).collect();
    let (before, burst) = (weft.process().memory(), encode("GET k").repeat(1000));
    // Each needs a window of a thousand entries and some buffers: if they kept them, 40 MiB.
    for client in &mut clients {
        client.send_raw(&burst);
        (0..1000).for_each(|_| drop(client.receive()));
    }
    let cost = weft.process().memory_peak() - before;
    println!("200 bursts of 200 clients: {} KiB", cost / KIB);
    assert!(cost < 20 * MIB, "{cost} bytes");
}

#[test]
fn blocked_clients_need_no_connections_of_their_own() {
    allow_descriptors();
    let shards = Shards::fixed(Flavor::Redis, 3);
    let mut weft = Weft::setup(&shards).set("limits.clients_max", 20_000).start();
    let count = many() / 2;
    let before = weft.process().memory();
    let mut clients: Vec<Client> = (0..2 * count).map(|_| weft.client()).collect();
    let (apart, together) = clients.split_at_mut(count);
    apart.iter_mut().enumerate().for_each(|(number, client)| client.send(&format!("BLPOP q{number} 0")));
    together.iter_mut().for_each(|client| client.send("BLPOP q 0"));
    let mut other = weft.client();
    eventually(3 * PATIENCE, "all are blocked", || {
        other.call("INFO clients").text().is_some_and(|info| info.contains(&format!("blocked_clients:{}\r", 2 * count)))
    });
    println!("{} blocked clients: {} bytes each", 2 * count, (weft.process().memory() - before) / (2 * count) as u64);
    for shard in shards.servers() {
        let info = shard.client().call("INFO clients").text().unwrap();
        let connected = info.lines().find_map(|line| line.strip_prefix("connected_clients:")).unwrap().parse::<u32>().unwrap();
        assert!(connected < 50, "{connected} connections to a shard");
    }
    let pushes: Vec<u8> = (0..count).flat_map(|number| encode(&format!("RPUSH q{number} {number}"))).collect();
    other.send_raw(pushes);
    (0..count).for_each(|_| assert_eq!(other.receive(), Reply::Integer(1)));
    for (number, client) in apart.iter_mut().enumerate() {
        assert_eq!(client.receive(), Reply::array([format!("q{number}").as_str(), number.to_string().as_str()]));
    }
    let values: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    for chunk in values.chunks(100) {
        let push: Vec<&str> = ["RPUSH", "q"].into_iter().chain(chunk.iter().map(String::as_str)).collect();
        assert!(matches!(other.call(&push[..]), Reply::Integer(_)));
    }
    let mut served: Vec<String> = together.iter_mut().map(|client| client.receive().items().unwrap()[1].text().unwrap()).collect();
    served.sort_by_key(|number| number.parse::<usize>().unwrap());
    assert_eq!(served, values, "each element once");
}

#[test]
fn a_queue_without_end_is_refused() {
    const COMMANDS: usize = 100_000;
    let shards = Shards::fixed(Flavor::Redis, 1);
    for (setting, value, size) in [("transactions.queue_bytes_max", 8 * MIB, 1000), ("transactions.queue_commands_max", 65_536, 1)] {
        let mut weft = Weft::setup(&shards).set(setting, value).start();
        let mut client = weft.client();
        client.must_ok("MULTI");
        let before = weft.process().memory();
        let (mut queued, chunk) = (0, encode(&["SET", "k", &"v".repeat(size)]).repeat(1000));
        for _ in 0..COMMANDS / 1000 {
            client.send_raw(&chunk);
            queued += (0..1000).filter(|_| client.receive() == Reply::Simple("QUEUED".into())).count();
        }
        client.must_err("EXEC", "EXECABORT");
        let cost = weft.process().memory_peak() - before;
        println!("{queued} of {COMMANDS} commands of {size} bytes queued: {} KiB", cost / KIB);
        assert!((1000..COMMANDS).contains(&queued), "{queued} queued");
        assert!(cost < 32 * MIB, "{cost} bytes");
    }
}

/// Sends `count` times `command` on `client` as long as weft takes it, then looks at weft's memory by `look`, then sends the rest while
/// the replies are read, and gives those that differ from `expected`.
fn flood(client: &mut Client, command: &[u8], count: usize, expected: &Reply, look: impl FnOnce()) -> Vec<Reply> {
    let bytes = command.repeat(count);
    let sent = push(client.stream(), &bytes);
    assert!(sent < bytes.len(), "all of it was taken");
    look();
    let mut stream = client.stream().try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| stream.write_all(&bytes[sent..]).unwrap());
        (0..count).map(|_| client.receive()).filter(|reply| reply != expected).collect()
    })
}

/// Writes as much of `bytes` as the other side takes, and says how much that was. It takes no more if it does not for a while; should
/// that be wrong because the machine is slow, the test is weaker and not wrong.
fn push(mut stream: &TcpStream, bytes: &[u8]) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut in_vain) = (0, 0);
    eventually(PATIENCE, "no more is taken", || {
        while sent < bytes.len() {
            match stream.write(&bytes[sent..]) {
                Ok(written) => (sent, in_vain) = (sent + written, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        in_vain += 1;
        sent == bytes.len() || in_vain > 40
    });
    stream.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn who_does_not_read_replies_is_not_read_from() {
    let shards = Shards::fixed(Flavor::Redis, 1);
    let mut weft = Weft::start(&shards);
    // A key so long that sockets do not take all requests.
    let (mut client, key, value) = (weft.client(), "k".repeat(200), "v".repeat(1000));
    client.must_ok(&["SET", &key, &value]);
    let before = weft.process().memory();
    let wrong = flood(&mut client, &encode(&["GET", &key]), 100_000, &Reply::from(value.as_str()), || {
        let cost = weft.process().memory_peak() - before;
        println!("a client that reads nothing: {} KiB", cost / KIB);
        assert!(cost < 8 * MIB, "{cost} bytes");
    });
    assert_eq!(wrong, [], "the others are what was asked for");
}

#[test]
fn writes_to_a_shard_that_does_not_take_them_are_not_gathered() {
    let mut shards = Shards::fixed(Flavor::Redis, 1);
    let setup = Weft::setup(&shards).set("upstream.reply_timeout_ms", 60_000).set("upstream.pending_bytes_max", 4 * MIB);
    let mut weft = setup.start();
    let mut clients: Vec<Client> = (0..16).map(|_| weft.client()).collect();
    // By now there is an armed connection.
    clients.iter_mut().for_each(|client| client.must_ok("SET k v"));
    let (before, command) = (weft.process().memory(), encode(&["SET", "k", &"v".repeat(64 * 1024)]));
    shards.server(0).process().pause();
    let bytes = command.repeat(500);
    let sent: Vec<usize> = thread::scope(|scope| {
        let pushes: Vec<_> = clients.iter().map(|client| scope.spawn(|| push(client.stream(), &bytes))).collect();
        pushes.into_iter().map(|push| push.join().unwrap()).collect()
    });
    let cost = weft.process().memory_peak() - before;
    println!("16 clients with 32 MiB of writes each: {} KiB", cost / KIB);
    assert!(sent.iter().all(|sent| *sent < bytes.len()));
    assert!(cost < 32 * MIB, "{cost} bytes");
    shards.server(0).process().resume();
    for (client, sent) in clients.iter_mut().zip(sent) {
        let whole = sent.div_ceil(command.len());
        client.send_raw(&bytes[sent..whole * command.len()]);
        (0..whole).for_each(|_| assert_eq!(client.receive(), Reply::ok()));
    }
}

#[test]
fn a_value_of_a_hundred_megabytes_is_in_memory_once_and_then_no_more() {
    const SIZE: usize = 100 << 20;
    let shards = Shards::fixed(Flavor::Redis, 2);
    // However long a shard is busy with it.
    let setup = Weft::setup(&shards).set("upstream.reply_timeout_ms", 60_000).set("transactions.lease_ms", 60_000);
    let mut weft = setup.set("transactions.patience_ms", 60_000).start();
    let mut client = weft.client();
    let [a, b] = [0, 1].map(|shard| shards.key_on(shard, "k"));
    client.must_ok(&format!("MSET {a} 1 {b} 2"));
    let (value, before) = (vec![b'v'; SIZE], weft.process().memory());
    let large = Reply::Bulk(value.clone());
    let pass = |client: &mut Client, weft: &mut Weft, what: &str, copies: u64, act: &dyn Fn(&mut Client)| {
        weft.process().forget_memory_peak();
        act(client);
        let cost = weft.process().memory_peak().saturating_sub(before);
        println!("{what}: {} MiB", cost / MIB);
        assert!(cost < copies * SIZE as u64 + 16 * MIB, "{what}: {cost} bytes");
        eventually(PATIENCE, "it is given back", || weft.process().memory() < before + 16 * MIB);
    };
    let set = encode(&[&b"SET"[..], a.as_bytes(), &value]);
    pass(&mut client, &mut weft, "SET", 1, &|client| {
        client.send_raw(&set);
        assert_eq!(client.receive(), Reply::ok());
    });
    pass(&mut client, &mut weft, "GET", 1, &|client| assert!(client.call(&format!("GET {a}")) == large));
    pass(&mut client, &mut weft, "MGET", 1, &|client| {
        assert!(client.call(&format!("MGET {a} {b}")) == Reply::Array(vec![large.clone(), Reply::from("2")]));
    });
    pass(&mut client, &mut weft, "EXEC of one shard", 1, &|client| {
        client.must_ok("MULTI");
        client.send_raw(&set);
        assert_eq!(client.receive(), Reply::Simple("QUEUED".into()));
        client.must_reply("EXEC", Reply::Array(vec![Reply::ok()]));
    });
    pass(&mut client, &mut weft, "EXEC of two shards", 1, &|client| {
        client.must_ok("MULTI");
        client.send_raw(&set);
        assert_eq!(client.receive(), Reply::Simple("QUEUED".into()));
        client.must_queue(&format!("SET {b} 3"));
        client.must_reply("EXEC", Reply::Array(vec![Reply::ok(), Reply::ok()]));
    });
}

#[test]
fn large_requests_of_many_clients_wait_for_each_other() {
    const SIZE: usize = 16 << 20;
    let shards = Shards::fixed(Flavor::Redis, 1);
    let mut weft = Weft::setup(&shards).set("limits.clients_bytes_max", 32 * MIB).start();
    weft.client().must_ok("SET k v");
    let before = weft.process().memory();
    let set = encode(&[&b"SET"[..], b"k", &vec![b'v'; SIZE]]);
    let mut clients: Vec<Client> = (0..12).map(|_| weft.client()).collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                client.send_raw(&set);
                assert_eq!(client.receive(), Reply::ok());
            });
        }
    });
    let cost = weft.process().memory_peak() - before;
    println!("12 times 16 MiB with room for 32: {} MiB", cost / MIB);
    // What is budgeted, one that goes beyond, and at each of the two workers one that was answered and is about to be freed.
    assert!(cost < 32 * MIB + 3 * SIZE as u64, "{cost} bytes");
}

#[test]
fn a_request_beyond_all_bounds_ends_the_connection() {
    let shards = Shards::fixed(Flavor::Redis, 1);
    let mut weft = Weft::setup(&shards).set("limits.client_query_bytes_max", MIB).start();
    let before = weft.process().memory();
    let mut client = weft.client();
    client.send_raw(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", 2 * MIB));
    client.must_be_closed();
    // Or one of many small arguments.
    let mut client = weft.client();
    client.send_raw("*1000000\r\n$4\r\nMSET\r\n");
    let pieces = b"$1\r\nv\r\n".repeat(1000);
    while client.try_send_raw(&pieces).is_ok() {}
    assert!(weft.process().memory_peak() < before + 16 * MIB);
    weft.client().must_ok("SET k v");
}
