//! Pipelines: many commands in one write, to several shards, answered in their order.

use weft::slot::Slot;

use crate::support::{Client, Flavor, Mode, PATIENCE, Reply, Shards, Stage, Weft, encode, eventually, on_each};

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// What a pipeline is made of: reads, writes, commands that weft answers itself, commands over several shards, errors of every origin.
const ANYTHING: &[&str] = &[
    "SET X 1",
    "SET Y 2",
    "SET Z text",
    "GET X",
    "GET Y",
    "GET Z",
    "INCR X",
    "INCR Y",
    "INCR Z",
    "APPEND Z more",
    "STRLEN Z",
    "GETDEL X",
    "PING",
    "PING word",
    "ECHO word",
    "MGET X Y Z",
    "MGET Z X",
    "MSET X 5 Y 6",
    "MSETNX X 1 Z 2",
    "DEL X Y",
    "EXISTS X Y Z",
    "LPUSH Y a",
    "RPUSH Z b",
    "LRANGE Y 0 -1",
    "LPOP Y 1",
    "TYPE X",
    "TYPE Y",
    "NOSUCH command",
    "GET",
    "GET X Y",
    "SET X 1 NX",
    "SETNX Z 1",
    "HSET X f v",
    "HGETALL X",
    "INCRBYFLOAT X 0.5",
    "GETSET Y 9",
    "EXPIRE X 100",
    "PERSIST X",
    "UNLINK Z",
    "TOUCH X Y",
    "CLIENT GETNAME",
    "SINTERCARD nonsense X",
    "SETRANGE Y 2 ab",
    "EVAL return 1 X",
    "BITCOUNT Z",
    "WATCH X Y",
    "UNWATCH",
    "COMMAND COUNT",
];

#[test]
fn two_hundred_commands_in_one_write_are_answered_in_order() {
    on_each(|stage| {
        let mut numbers = Numbers(7);
        for _ in 0..3 {
            let commands: Vec<&str> = (0..200).map(|_| ANYTHING[numbers.below(ANYTHING.len())]).collect();
            stage.must_agree(&commands.join("; "));
        }
    });
}

#[test]
fn transactions_in_a_pipeline_are_answered_in_order_with_what_surrounds_them() {
    on_each(|stage| {
        let mut numbers = Numbers(11);
        // MSETNX over shards is not queued yet, and for WATCH Valkey has other words than Redis.
        let queueable: Vec<&str> = ANYTHING.iter().copied().filter(|command| !["MSETNX X 1 Z 2", "WATCH X Y"].contains(command)).collect();
        for _ in 0..3 {
            let mut commands = Vec::new();
            while commands.len() < 200 {
                commands.extend((0..numbers.below(6)).map(|_| ANYTHING[numbers.below(ANYTHING.len())]));
                commands.push("MULTI");
                commands.extend((0..numbers.below(6)).map(|_| queueable[numbers.below(queueable.len())]));
                commands.push(["EXEC", "EXEC", "EXEC", "DISCARD"][numbers.below(4)]);
            }
            stage.must_agree(&commands.join("; "));
        }
    });
}

#[test]
fn a_run_of_writes_longer_than_any_limit_keeps_its_order() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let mut client = stage.client();
        let pipeline: Vec<u8> = (0..3_000).flat_map(|n| encode(&format!("INCR {}", [&x, &y, &z][n % 3]))).collect();
        client.send_raw(pipeline);
        for n in 0..3_000 {
            client.must_receive(format!(":{}\r\n", n / 3 + 1));
        }
    });
}

#[test]
fn a_run_of_writes_keeps_its_order_when_a_transaction_has_come_and_gone() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let (mut writer, mut other) = (stage.client(), stage.client());
        for round in 0..20 {
            other.must_ok(&format!("MSET {{{x}}}2 1 {{{y}}}2 1 {{{z}}}2 1"));
            writer.send_raw((0..2_000).flat_map(|_| encode(&format!("INCR {x}"))).collect::<Vec<u8>>());
            for n in 1..=2_000 {
                writer.must_receive(format!(":{}\r\n", round * 2_000 + n));
            }
        }
    });
}

#[test]
fn a_pipeline_cut_into_single_bytes_is_answered_all_the_same() {
    on_each(|stage| {
        let [x, y, _] = stage.keys();
        let mut client = stage.client();
        let commands = [format!("SET {x} 1"), "MULTI".to_owned(), format!("INCR {x}"), format!("INCR {y}"), "EXEC".to_owned()];
        for byte in commands.iter().flat_map(encode) {
            client.send_raw([byte]);
        }
        client.must_receive("+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:2\r\n:1\r\n");
    });
}

#[test]
fn replies_keep_their_order_when_an_early_read_has_to_wait_for_a_lock() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let mut client = stage.client();
        client.must_ok(&format!("MSET {x} 1 {y} 2 {z} 3"));
        let lock = Lock::hold(stage, 1, &y);
        let reads =
            [format!("GET {x}"), format!("GET {y}"), format!("GET {z}"), format!("EXISTS {y}"), "PING".to_owned(), format!("GET {x}")];
        client.send_raw(reads.iter().flat_map(encode).collect::<Vec<u8>>());
        client.must_receive("$1\r\n1\r\n");
        client.must_stay_silent(std::time::Duration::from_millis(50));
        lock.release();
        client.must_receive("$1\r\n2\r\n$1\r\n3\r\n:1\r\n+PONG\r\n$1\r\n1\r\n");
    });
}

#[test]
fn replies_keep_their_order_when_an_early_write_has_to_wait_for_a_lock() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let mut client = stage.client();
        let lock = Lock::hold(stage, 1, &y);
        let commands =
            [format!("INCR {y}"), format!("INCR {x}"), format!("INCR {y}"), format!("INCR {z}"), format!("GET {y}"), "PING".to_owned()];
        client.send_raw(commands.iter().flat_map(encode).collect::<Vec<u8>>());
        client.must_stay_silent(std::time::Duration::from_millis(50));
        lock.release();
        client.must_receive(":1\r\n:1\r\n:2\r\n:1\r\n$1\r\n2\r\n+PONG\r\n");
    });
}

/// Another transaction's lock on a key, put there past weft.
struct Lock {
    shard: Client,
    name: String,
    gate: String,
    owner: String,
}

impl Lock {
    fn hold(stage: &Stage<'_>, shard: usize, key: &str) -> Self {
        let tag = if stage.is_static() { String::new() } else { format!("{{{}}}", Slot::of(key.as_bytes()).tag()) };
        let (name, gate) = (format!("__weft:{tag}x:{key}"), format!("__weft:{tag}g"));
        let mut shard = stage.shards().servers()[shard].client();
        shard.must_ok(&["SET", name.as_str(), "1-1-1-1 99999999999999"]);
        let owner = format!("1-1-1-{key}");
        shard.must_int(&["SADD", gate.as_str(), owner.as_str()], 1);
        Self { shard, name, gate, owner }
    }

    fn release(mut self) {
        self.shard.must_int(&format!("DEL {}", self.name), 1);
        self.shard.must_int(&format!("SREM {} {}", self.gate, self.owner), 1);
    }
}

/// More than one batch takes, so that some go by further connections for writes.
#[test]
fn each_of_many_pipelines_is_carried_out_in_its_order() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (weft, key) = (&weft, format!("count:{number}"));
            scope.spawn(move || {
                let mut client = weft.client();
                let pipeline: Vec<u8> = (0..150).flat_map(|_| encode(&["INCR", &key])).collect();
                for round in 0..100 {
                    client.send_raw(&pipeline);
                    (1..=150).for_each(|step| assert_eq!(client.receive(), Reply::Integer(150 * round + step)));
                }
            });
        }
    });
}

#[test]
fn writes_take_another_connection_where_half_a_batch_waits_for_the_first() {
    let mut shards = Shards::start(Mode::Static, Flavor::Redis, 1);
    let weft = Weft::setup(&shards).set("workers", 1).set("upstream.connect_timeout_ms", 60_000).set("upstream.reply_timeout_ms", 60_000);
    let weft = weft.start();
    let mut server = shards.server(0).client();
    // A batch ends with a look at the gate.
    let mut connections = || server.call("CLIENT LIST").text().unwrap().lines().filter(|line| line.contains(" cmd=exists ")).count();
    let mut clients = ["first", "second", "third"].map(|name| {
        let mut client = weft.client();
        client.must_ok(&["CLIENT", "SETNAME", name]);
        (name, client)
    });
    // The first batch is an empty one that arms the connection; weft knows that it is armed when one with a write was answered.
    let mut watcher = shards.server(0).client();
    eventually(PATIENCE, "a write has gone by the first one", || {
        clients[0].1.must_ok("SET first 0");
        let batches = watcher.call("INFO commandstats").text().unwrap();
        batches.lines().any(|line| line.starts_with("cmdstat_exec:") && !line.starts_with("cmdstat_exec:calls=1,"))
    });
    assert_eq!(connections(), 1);

    shards.server(0).process().pause();
    let mut looker = weft.client();
    for ((name, client), writes) in clients.iter_mut().zip([1, 64, 1]) {
        client.send_raw((0..writes).flat_map(|_| encode(&["INCR", name])).collect::<Vec<u8>>());
        let is_sent = |line: &str| line.contains(&format!(" name={name} ")) && line.contains(" cmd=incr ");
        eventually(PATIENCE, "it is sent", || looker.call("CLIENT LIST").text().unwrap().lines().any(is_sent));
    }
    shards.server(0).process().resume();
    for ((_, client), writes) in clients.iter_mut().zip([1, 64, 1]) {
        (1..=writes).for_each(|step| assert_eq!(client.receive(), Reply::Integer(step)));
    }
    eventually(PATIENCE, "the second one is there", || connections() == 2);
}
