//! A script and transactions over shards that touch the same group: neither comes into the middle of the other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use weft::txn::Script;

use super::*;
use crate::support::{Fault, FaultProxy, PATIENCE, Setup, Way, eventually};

/// Two shards, a group on one of them, and a key on the other. What makes the group is a rule before static shards, in a cluster a hash tag.
struct Scene {
    mode: Mode,
    shards: Shards,
    group: String,
    other: String,
}

impl Scene {
    fn start(mode: Mode) -> Self {
        let shards = Shards::start(mode, Flavor::Redis, 2);
        let group = match mode {
            Mode::Static => shards.key_on(0, "app:"),
            Mode::Cluster => format!("{{{}}}", shards.key_on(0, "app")),
        };
        let other = shards.key_on(1, "other");
        Self { mode, shards, group, other }
    }

    fn setup(&self) -> Setup {
        let setup = Weft::setup(&self.shards).set("transactions.lock_wait_timeout_ms", 20_000);
        if self.mode == Mode::Static { setup.set("affinity", RULES) } else { setup }
    }

    /// What is to reach the shards through `proxies`.
    fn setup_through(&mut self, proxies: &[FaultProxy]) -> Setup {
        match self.mode {
            Mode::Static => {
                self.shards.servers().iter().zip(proxies).fold(self.setup(), |setup, (server, proxy)| setup.through(proxy, server))
            }
            Mode::Cluster => {
                self.shards.announce(proxies);
                self.setup()
            }
        }
    }

    /// `name` in the group.
    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.group)
    }
}

#[test]
fn a_script_waits_for_a_transaction_that_holds_any_key_of_its_group() {
    Mode::ALL.into_iter().for_each(must_wait_for_the_group);
}

fn must_wait_for_the_group(mode: Mode) {
    let mut scene = Scene::start(mode);
    let proxies: Vec<FaultProxy> = scene.shards.servers().iter().map(|server| FaultProxy::start(server.address())).collect();
    let slow = scene.setup_through(&proxies).set("transactions.lease_ms", 60_000).start();
    let (key, other) = (scene.key("a"), &scene.other);
    let weft = scene.setup().start();
    proxies.iter().for_each(|proxy| proxy.set(Way::Requests, Script::Commit.sha1(), Fault::Hold));
    let mut owner = slow.client();
    owner.must_ok("MULTI");
    owner.must_queue(&format!("SET {key} 1"));
    owner.must_queue(&format!("SET {other} 1"));
    owner.send("EXEC");
    proxies.iter().for_each(FaultProxy::must_spring);

    let mut client = weft.client();
    // Those who share the group go on, among them a script that uses nothing but its keys.
    client.must_ok(&format!("SET {} 5", scene.key("b")));
    client.must_bulk(&format!("GET {}", scene.key("b")), "5");
    let literal = ["EVAL", "return redis.call('GET', KEYS[1])", "1", &scene.key("b")];
    client.must_bulk(&literal, "5");
    client.must_ok("MULTI");
    client.must_queue(&literal);
    client.must_reply("EXEC", Reply::array(["5"]));
    let mut held: Vec<Client> = (0..4).map(|_| weft.client()).collect();
    let sum = "return redis.call('GET', KEYS[1] .. 'a') + redis.call('GET', KEYS[1] .. 'b')";
    let base = scene.key("");
    held[0].send(&["EVAL", sum, "1", &base]);
    held[1].send(&["EVAL_RO", sum, "1", &base]);
    held[2].must_ok("MULTI");
    held[2].must_queue(&["EVAL", sum, "1", &base]);
    held[2].send("EXEC");
    held[3].send(&format!("GET {key}"));
    for client in &mut held {
        client.must_stay_silent(Duration::from_millis(50));
    }
    proxies.iter().for_each(FaultProxy::release);
    assert_eq!(owner.receive(), Reply::Array(vec![Reply::ok(), Reply::ok()]));
    assert_eq!(held[0].receive(), Reply::Integer(6));
    assert_eq!(held[1].receive(), Reply::Integer(6));
    assert_eq!(held[2].receive(), Reply::array([6]));
    assert_eq!(held[3].receive(), Reply::from("1"));
}

#[test]
fn what_a_dead_wefts_script_was_to_write_is_seen_by_whoever_asks_for_it() {
    Mode::ALL.into_iter().for_each(must_see_what_a_script_was_to_write);
}

fn must_see_what_a_script_was_to_write(mode: Mode) {
    let scene = Scene::start(mode);
    for question in ["GET {a}", "MGET {a} {b}", "INCRBY {a} 0", "EVAL {sum} 1 {base}", "MULTI"] {
        let weft = scene.setup().set("transactions.lease_ms", 500).start();
        let mut doomed = scene.setup().set("transactions.lease_ms", 500).env("WEFT_FAILPOINT", "before-commit").start();
        let mut owner = doomed.client();
        owner.must_ok("MULTI");
        // It names neither of the keys that it writes.
        let script = "redis.call('SET', KEYS[1] .. 'a', 3) return redis.call('SET', KEYS[1] .. 'b', 4)";
        owner.must_queue(&["EVAL", script, "1", &scene.key("")]);
        owner.must_queue(&format!("SET {} 1", scene.other));
        owner.send("EXEC");
        doomed.process().must_exit();

        let (a, b, mut client) = (scene.key("a"), scene.key("b"), weft.client());
        let words: Vec<String> =
            question.split(' ').map(|word| word.replace("{a}", &a).replace("{b}", &b).replace("{base}", &scene.key(""))).collect();
        let sum = "return redis.call('GET', KEYS[1] .. 'a') + redis.call('GET', KEYS[1] .. 'b')".to_owned();
        let words: Vec<String> = words.into_iter().map(|word| if word == "{sum}" { sum.clone() } else { word }).collect();
        match question {
            "MULTI" => {
                client.must_ok(&format!("WATCH {a}"));
                client.must_ok("MULTI");
                client.must_queue(&format!("GET {b}"));
                client.must_queue(&format!("GET {}", scene.other));
                client.must_reply("EXEC", Reply::array(["4", "1"].map(Reply::from)));
            }
            _ => {
                let expected = match words[0].as_str() {
                    "GET" => Reply::from("3"),
                    "MGET" => Reply::array(["3", "4"].map(Reply::from)),
                    "INCRBY" => Reply::Integer(3),
                    _ => Reply::Integer(7),
                };
                assert_eq!(client.call(words.as_slice()), expected, "{question}");
            }
        }
    }
}

/// Says that all is over, also when a look has found something wrong.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Scripts and transactions move what a group has between keys that scripts do not declare, and out of it; whoever looks at all of them
/// sees all of it, while one of two wefts is killed.
#[test]
fn nothing_is_lost_between_scripts_and_transactions_while_a_weft_dies() {
    Mode::ALL.into_iter().for_each(must_lose_nothing);
}

fn must_lose_nothing(mode: Mode) {
    const ROUNDS: usize = 60;
    let scene = Scene::start(mode);
    let start = || scene.setup().set("transactions.lease_ms", 500).start();
    let (mut mortal, other) = (start(), start());
    let addresses = [mortal.address(), other.address()];
    let (a, b, out, base) = (scene.key("a"), scene.key("b"), scene.other.clone(), scene.key(""));
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _ends = Ends(&over);
        let within = ["EVAL", "redis.call('DECR', KEYS[1] .. 'a') return redis.call('INCR', KEYS[1] .. 'b')", "1", &base]
            .map(str::to_owned)
            .to_vec();
        let words = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let outwards = [words("MULTI".into()), words(format!("DECR {b}")), words(format!("INCR {out}")), words("EXEC".into())];
        let mixed = [words("MULTI".into()), within.clone(), words(format!("INCR {a}")), words(format!("DECR {out}")), words("EXEC".into())];
        let (over, done) = (&over, &done);
        for commands in [vec![within.clone()], outwards.to_vec(), mixed.to_vec()] {
            for address in addresses {
                let commands = commands.clone();
                scope.spawn(move || {
                    let mut client = None;
                    while !over.load(Ordering::Relaxed) {
                        let connected = match client.take() {
                            Some(client) => Some(client),
                            None => Client::try_connect(address).ok(),
                        };
                        client = connected.and_then(|mut client: Client| {
                            let mut last = None;
                            for command in &commands {
                                client.try_send_raw(crate::support::encode(command.as_slice())).ok()?;
                                last = client.try_receive().ok();
                                last.as_ref()?;
                            }
                            done.fetch_add(usize::from(!matches!(last, Some(Reply::Error(_)))), Ordering::Relaxed);
                            Some(client)
                        });
                        if client.is_none() {
                            thread::yield_now();
                        }
                    }
                });
            }
        }
        let mut reader = other.client();
        reader.set_patience(PATIENCE * 3);
        let mut look = || {
            let all = "local n = 0; for _, key in ipairs({'a', 'b'}) do n = n + (redis.call('GET', KEYS[1] .. key) or 0) end; return n";
            reader.must_ok("MULTI");
            reader.must_queue(&["EVAL", all, "1", &base]);
            reader.must_queue(&format!("INCRBY {out} 0"));
            let reply = reader.call("EXEC");
            match &reply {
                Reply::Array(items) => match items[..] {
                    [Reply::Integer(group), Reply::Integer(out)] => assert_eq!(group + out, 0, "{reply:?}"),
                    _ => panic!("{reply:?}"),
                },
                Reply::Error(_) => {}
                _ => panic!("{reply:?}"),
            }
        };
        for round in 0..ROUNDS {
            look();
            if round == ROUNDS / 2 {
                mortal.process().kill();
            }
        }
        mortal.start_again();
        let before = done.load(Ordering::Relaxed);
        eventually(PATIENCE, "they go on", || done.load(Ordering::Relaxed) > before + 20);
        over.store(true, Ordering::Relaxed);
        look();
    });
    // Nobody waits for locks of the dead any more.
    let mut client = other.client();
    client.set_patience(PATIENCE * 3);
    let Reply::Array(items) = client.call(&format!("MGET {a} {b} {out}")) else { panic!("no array") };
    let sum: i64 = items.iter().map(|item| item.text().map_or(0, |text| text.parse::<i64>().unwrap())).sum();
    assert_eq!(sum, 0, "{items:?}");
}
