//! Client-side caching: what a client keeps is invalidated whoever changes it, and however.

use crate::support::{Client, Clock, Flavor, Mode, PATIENCE, Reply, Shards, Weft, eventually};

/// Runs `test` with two proxies before three shards, in every mode.
fn everywhere(test: impl Fn(&mut Shards, &[Weft; 2])) {
    for mode in Mode::ALL {
        before(Shards::start(mode, Flavor::Redis, 3), &test);
    }
}

fn before(mut shards: Shards, test: impl Fn(&mut Shards, &[Weft; 2])) {
    let proxies = [Weft::start(&shards), Weft::start(&shards)];
    test(&mut shards, &proxies);
}

/// A client that is told of changes on the terms that `options` name.
#[track_caller]
fn keeper(weft: &Weft, options: &str) -> Client {
    let mut client = weft.client_resp3();
    client.must_ok(&format!("CLIENT TRACKING ON {options}"));
    client
}

fn keys(shards: &Shards) -> [String; 3] {
    [0, 1, 2].map(|index| shards.key_on(index, "kept"))
}

fn invalidation(keys: &[&str]) -> Reply {
    Reply::Push(vec!["invalidate".into(), Reply::array(keys.iter().copied())])
}

fn of_all() -> Reply {
    Reply::Push(vec!["invalidate".into(), Reply::Nil])
}

/// The keys in as many invalidations as there are `expected` keys, which come in any order.
#[track_caller]
fn must_hear_of(client: &mut Client, expected: &[String]) {
    let mut heard: Vec<String> = expected.iter().map(|_| key_in(&client.receive())).collect();
    heard.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(heard, expected);
}

#[track_caller]
fn key_in(message: &Reply) -> String {
    match message.items() {
        Some([word, Reply::Array(keys)]) if *word == "invalidate".into() && keys.len() == 1 => keys[0].text().expect("a name"),
        _ => panic!("{message:?} instead of an invalidation of one key"),
    }
}

#[test]
fn what_is_kept_is_invalidated_by_a_write_through_another_proxy() {
    everywhere(|shards, proxies| {
        let names = keys(shards);
        let mut keeper = keeper(&proxies[0], "");
        let mut writer = proxies[1].client();
        for name in &names {
            writer.must_ok(&["SET", name, "1"]);
            keeper.must_bulk(&["GET", name], "1");
            writer.must_ok(&["SET", name, "2"]);
            assert_eq!(keeper.receive(), invalidation(&[name]));
            // Nobody keeps it any more.
            writer.must_ok(&["SET", name, "3"]);
        }
        let [x, y, z] = &names;
        assert_eq!(keeper.call(&["MGET", x, y, z]), Reply::array(["3", "3", "3"]));
        writer.must_ok("MULTI");
        names.iter().for_each(|name| writer.must_queue(&["SET", name, "4"]));
        assert_eq!(writer.call("EXEC"), Reply::Array(vec![Reply::ok(); 3]));
        must_hear_of(&mut keeper, &names);
        // What is read in a transaction is kept, too.
        keeper.must_ok("MULTI");
        names.iter().for_each(|name| keeper.must_queue(&["GET", name]));
        assert_eq!(keeper.call("EXEC"), Reply::array(["4", "4", "4"]));
        writer.must_int(&["DEL", x, y, z], 3);
        must_hear_of(&mut keeper, &names);
        keeper.must_reply("PING", Reply::Simple("PONG".into()));
    });
}

#[test]
fn what_expires_is_invalidated() {
    for mode in Mode::ALL {
        let clock = Clock::ahead_by(0);
        before(Shards::with_clocks(mode, [(); 3].map(|()| clock.clone())), |shards, proxies| {
            let mut keeper = keeper(&proxies[0], "");
            let mut writer = proxies[1].client();
            // Its nodes must not take each other for dead when the clock is put forward.
            (0..3).for_each(|index| shards.server(index).set_option("cluster-node-timeout", "3600000"));
            for (name, minutes) in keys(shards).iter().zip(1..) {
                writer.must_ok(&["SET", name, "1", "EX", "60"]);
                keeper.must_bulk(&["GET", name], "1");
                clock.set(minutes * 60);
                assert_eq!(keeper.receive(), invalidation(&[name]));
            }
        });
    }
}

#[test]
fn what_is_flushed_is_invalidated() {
    everywhere(|shards, proxies| {
        let mut keeper = keeper(&proxies[0], "");
        let mut writer = proxies[1].client();
        for name in &keys(shards) {
            writer.must_ok(&["SET", name, "1"]);
            keeper.must_bulk(&["GET", name], "1");
        }
        writer.must_ok("FLUSHALL");
        assert_eq!(keeper.receive(), of_all());
    });
}

#[test]
fn when_a_shard_dies_everything_is_invalidated_and_nothing_is_kept_until_it_is_heard_again() {
    everywhere(|shards, proxies| {
        let names = keys(shards);
        let mut keeper = keeper(&proxies[0], "");
        for name in &names {
            keeper.must_nil(&["GET", name]);
        }
        shards.server(0).process().kill();
        assert_eq!(keeper.receive(), of_all());
        keeper.must_nil(&["GET", &names[1]]);
        assert_eq!(keeper.receive(), invalidation(&[&names[1]]));
        shards.server(0).restart();
        // As long as a shard is not heard each value comes with its invalidation; then it may be kept.
        let mut writer = proxies[1].client();
        eventually(PATIENCE, "values are kept again", || {
            keeper.send(&["GET", &names[2]]);
            keeper.send("PING");
            let mut replies = vec![keeper.receive()];
            while replies.last() != Some(&Reply::Simple("PONG".into())) {
                replies.push(keeper.receive());
            }
            replies == [Reply::Nil, Reply::Simple("PONG".into())]
        });
        writer.must_ok(&["SET", &names[2], "1"]);
        assert_eq!(keeper.receive(), invalidation(&[&names[2]]));
    });
}

#[test]
fn a_client_never_keeps_what_it_has_overwritten() {
    everywhere(|shards, proxies| {
        let names = keys(shards);
        let mut keeper = keeper(&proxies[0], "");
        for name in &names {
            keeper.must_nil(&["GET", name]);
            keeper.must_ok(&["SET", name, "1"]);
            assert_eq!(keeper.receive(), invalidation(&[name]));
        }
        let [x, y, z] = &names;
        keeper.must_bulk(&["GET", x], "1");
        keeper.must_bulk(&["GET", y], "1");
        keeper.must_ok(&["MSET", x, "2", y, "2", z, "2"]);
        must_hear_of(&mut keeper, &[x.clone(), y.clone()]);
        keeper.must_reply("PING", Reply::Simple("PONG".into()));
    });
}

#[test]
fn with_noloop_a_client_is_spared_its_own_replacements_and_nobody_elses_changes() {
    everywhere(|shards, proxies| {
        let [x, y, z] = keys(shards);
        let mut keeper = keeper(&proxies[0], "NOLOOP");
        let mut writer = proxies[1].client();
        assert_eq!(keeper.call(&["MGET", &x, &y, &z]), Reply::Array(vec![Reply::Nil; 3]));
        keeper.must_ok(&["SET", &x, "1"]);
        keeper.must_ok(&["MSET", &x, "2", &y, "2"]);
        keeper.must_reply("PING", Reply::Simple("PONG".into()));
        // It has changed nothing by that, and keeps what it has read.
        keeper.must_int(&["HDEL", &z, "field"], 0);
        writer.must_ok(&["SET", &z, "3"]);
        assert_eq!(keeper.receive(), invalidation(&[&z]));
    });
}

/// What a client does that keeps values: it has the value that came last, unless it was told later to drop it.
#[derive(Default)]
struct Cache(Option<i64>);

impl Cache {
    fn take(&mut self, message: &Reply) {
        self.0 = match message {
            Reply::Push(_) => None,
            Reply::Array(values) => number(&values[0]),
            value => number(value),
        };
    }
}

fn number(value: &Reply) -> Option<i64> {
    Some(value.text().expect("a number").parse().expect("a number"))
}

#[test]
fn no_invalidation_is_lost_while_reads_are_in_flight() {
    const ROUNDS: i64 = 100;
    const READS: i64 = 3;
    everywhere(|shards, proxies| {
        let [x, name, _] = keys(shards);
        let mut writer = proxies[1].client();
        writer.must_ok(&["SET", &x, "0"]);
        let reads: [&[&str]; 3] = [&["GET", &name], &["MGET", &name, &x], &["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", &name]];
        for (options, read) in ["", "BCAST PREFIX kept"].into_iter().flat_map(|options| reads.map(|read| (options, read))) {
            let mut keeper = keeper(&proxies[0], options);
            let mut cache = Cache::default();
            writer.must_ok(&["SET", &name, "0"]);
            for round in 1..=ROUNDS {
                // The write takes place before, between or behind the reads, and the feed tells of it before or after their replies.
                (0..READS).for_each(|_| keeper.send(read));
                let (mut values, mut due) = (0, true);
                while values < READS {
                    if values == round % READS && std::mem::take(&mut due) {
                        writer.send(&["INCR", &name]);
                    }
                    let message = keeper.receive();
                    values += i64::from(!matches!(message, Reply::Push(_)));
                    cache.take(&message);
                }
                assert_eq!(writer.receive(), Reply::Integer(round));
                // What it still has to hear comes by itself; it asks for nothing.
                while cache.0.is_some_and(|value| value != round) {
                    cache.take(&keeper.receive());
                }
            }
        }
    });
}

#[test]
fn one_client_is_told_in_place_of_others_in_either_protocol() {
    everywhere(|shards, proxies| {
        let [x, y, _] = keys(shards);
        let mut writer = proxies[1].client();
        for resp3 in [false, true] {
            let mut told = if resp3 { proxies[0].client_resp3() } else { proxies[0].client() };
            let Reply::Integer(id) = told.call("CLIENT ID") else { panic!("a number") };
            told.call("SUBSCRIBE __redis__:invalidate");
            let mut readers: Vec<Client> = (0..4).map(|_| proxies[0].client()).collect();
            for reader in &mut readers {
                reader.must_ok(&format!("CLIENT TRACKING ON REDIRECT {id}"));
                reader.must_int("CLIENT GETREDIR", id);
            }
            for (reader, name) in readers.iter_mut().zip([&x, &y, &x, &y]) {
                reader.call(&["GET", name]);
            }
            writer.must_ok(&["MSET", &x, "1", &y, "1"]);
            let heard: Vec<Reply> = (0..4).map(|_| told.receive()).collect();
            for name in [&x, &y] {
                let expected = match resp3 {
                    true => invalidation(&[name]),
                    false => Reply::Array(vec!["message".into(), "__redis__:invalidate".into(), Reply::array([name.as_str()])]),
                };
                assert_eq!(heard.iter().filter(|message| **message == expected).count(), 2, "{heard:?}");
            }
            readers.iter_mut().for_each(|reader| assert_eq!(reader.call("PING"), Reply::Simple("PONG".into())));
            drop(told);
            let mut reader = keeper(&proxies[0], "");
            eventually(PATIENCE, "the other is gone", || {
                matches!(reader.call(&format!("CLIENT TRACKING ON REDIRECT {id}")), Reply::Error(text)
                    if text == "ERR The client ID you want redirect to does not exist")
            });
        }
    });
}

#[test]
fn with_prefixes_a_client_hears_of_keys_that_it_has_not_read_and_of_none_of_wefts() {
    everywhere(|shards, proxies| {
        let names = keys(shards);
        let mut all = keeper(&proxies[0], "BCAST");
        let mut some = keeper(&proxies[0], "BCAST PREFIX kept PREFIX other");
        let mut writer = proxies[1].client();
        writer.must_ok("MULTI");
        names.iter().for_each(|name| writer.must_queue(&["SET", name, "1"]));
        writer.must_queue("SET unheard 1");
        assert_eq!(writer.call("EXEC"), Reply::Array(vec![Reply::ok(); 4]));
        writer.must_ok("SET other:1 1");
        let heard = |client: &mut Client, count: usize| {
            let mut keys: Vec<String> = Vec::new();
            while keys.len() < count {
                let message = client.receive();
                let Some([_, Reply::Array(names)]) = message.items() else { panic!("{message:?}") };
                keys.extend(names.iter().filter_map(Reply::text));
            }
            keys.sort();
            keys
        };
        let mut expected: Vec<String> = names.iter().cloned().chain(["other:1".to_owned()]).collect();
        expected.sort();
        assert_eq!(heard(&mut some, 4), expected);
        expected.push("unheard".to_owned());
        expected.sort();
        assert_eq!(heard(&mut all, 5), expected);
    });
}

#[test]
fn only_what_was_asked_for_is_kept_with_optin_and_optout() {
    everywhere(|shards, proxies| {
        let [x, y, z] = keys(shards);
        let mut opt_in = keeper(&proxies[0], "OPTIN");
        let mut opt_out = keeper(&proxies[0], "OPTOUT");
        let mut writer = proxies[1].client();
        for (keeper, word, first, second) in [(&mut opt_in, "YES", &y, &x), (&mut opt_out, "NO", &x, &y)] {
            keeper.must_ok(&format!("CLIENT CACHING {word}"));
            keeper.must_nil(&["GET", &x]);
            keeper.must_nil(&["GET", &y]);
            let kept = if word == "YES" { &x } else { &y };
            for name in [first, second, &z] {
                writer.must_ok(&["SET", name, "1"]);
            }
            assert_eq!(keeper.receive(), invalidation(&[kept]));
            keeper.must_reply("PING", Reply::Simple("PONG".into()));
            writer.must_int(&["DEL", &x, &y], 2);
        }
        // It is about a whole transaction.
        opt_in.must_ok("CLIENT CACHING YES");
        opt_in.must_ok("MULTI");
        opt_in.must_queue(&["GET", &x]);
        opt_in.must_queue(&["GET", &y]);
        assert_eq!(opt_in.call("EXEC"), Reply::Array(vec![Reply::Nil; 2]));
        writer.must_ok(&["MSET", &x, "1", &y, "1"]);
        must_hear_of(&mut opt_in, &[x.clone(), y.clone()]);
    });
}

#[test]
fn when_there_are_too_many_keys_some_are_invalidated() {
    let shards = Shards::start(Mode::ALL[0], Flavor::Redis, 2);
    let weft = Weft::setup(&shards).set("limits.tracked_keys_max", 10).start();
    let mut keeper = keeper(&weft, "");
    for number in 0..25 {
        keeper.send(&["GET", &number.to_string()]);
    }
    let messages: Vec<Reply> = (0..40).map(|_| keeper.receive()).collect();
    let told = messages.iter().filter(|message| matches!(message, Reply::Push(_))).map(key_in).count();
    assert_eq!(told, 15, "{messages:?}");
    keeper.must_ok("CONFIG SET tracking-table-max-keys 9");
    key_in(&keeper.receive());
    let Reply::Verbatim(_, info) = keeper.call("INFO stats") else { panic!("a text") };
    assert!(String::from_utf8_lossy(&info).contains("\r\ntracking_total_keys:9\r\ntracking_total_items:9\r\n"));
}
