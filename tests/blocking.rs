//! Commands that wait, against what a plain server does, with keys on any shard.

use std::time::{Duration, Instant};

use crate::support::{Client, Fault, FaultProxy, Flavor, Mode, PATIENCE, Reply, Server, Shards, Way, Weft, eventually};

/// How long it is waited for something that must not come.
const QUIET: Duration = Duration::from_millis(150);

fn blocked_clients(client: &mut Client) -> i64 {
    let info = client.call("INFO clients").text().expect("INFO is text");
    let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:")).expect("it tells");
    line.trim().parse().expect("a number")
}

#[track_caller]
fn until_blocked(client: &mut Client, count: i64) {
    eventually(PATIENCE, "the clients wait", || blocked_clients(client) == count);
}

/// Runs `test` with three keys on three shards, through one proxy, in every mode.
fn everywhere(test: impl Fn(&Weft, [&str; 3])) {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let weft = Weft::start(&shards);
        let keys = [0, 1, 2].map(|index| shards.key_on(index, "k"));
        test(&weft, keys.each_ref().map(String::as_str));
    }
}

#[test]
fn a_pop_waits_for_the_first_of_its_keys_on_any_shard() {
    everywhere(|weft, [a, b, c]| {
        let (mut waiter, mut writer) = (weft.client(), weft.client());
        for (command, key) in [("BLPOP", a), ("BRPOP", b), ("BLPOP", c)] {
            waiter.send(&format!("{command} {a} {b} {c} 0"));
            until_blocked(&mut writer, 1);
            writer.must_int(&format!("RPUSH {key} v"), 1);
            assert_eq!(waiter.receive(), Reply::array([key, "v"]));
            writer.must_int(&format!("EXISTS {a} {b} {c}"), 0);
        }
        // What is there already is taken in the order of the arguments.
        writer.must_int(&format!("RPUSH {c} 3"), 1);
        writer.must_int(&format!("RPUSH {a} 1"), 1);
        waiter.must_reply(&format!("BLPOP {b} {c} {a} 0"), Reply::array([c, "3"]));
        waiter.must_reply(&format!("BLPOP {b} {c} {a} 0"), Reply::array([a, "1"]));
    });
}

#[test]
fn a_writer_is_answered_when_all_are_served_who_waited_for_it() {
    everywhere(|weft, [a, b, c]| {
        let (mut first, mut second, mut third, mut writer) = (weft.client(), weft.client(), weft.client(), weft.client());
        let writes = [
            (format!("RPUSH {a} v"), Reply::from(1)),
            (format!("LMOVE {{{a}}}other {a} LEFT RIGHT"), "v".into()),
            (format!("LMOVE {{{b}}}other {a} LEFT RIGHT"), "v".into()),
            (format!("EVAL redis.call('rpush',KEYS[1],'v') 1 {a}"), Reply::Nil),
            (format!("SORT {{{b}}}other BY nosort STORE {a}"), Reply::from(1)),
        ];
        for (write, reply) in writes {
            writer.must_int(&format!("RPUSH {{{a}}}other v"), 1);
            writer.must_int(&format!("RPUSH {{{b}}}other v"), 1);
            // A chain over three shards, and a fourth list beside the last.
            first.send(&format!("BLMOVE {a} {b} LEFT RIGHT 0"));
            until_blocked(&mut writer, 1);
            second.send(&format!("BRPOPLPUSH {b} {c} 0"));
            until_blocked(&mut writer, 2);
            third.send(&format!("BLMOVE {c} {{{c}}}end LEFT LEFT 0"));
            until_blocked(&mut writer, 3);
            writer.must_reply(&write, reply);
            writer.must_int(&format!("EXISTS {a} {b} {c}"), 0);
            writer.must_bulk(&format!("LPOP {{{c}}}end"), "v");
            for waiter in [&mut first, &mut second, &mut third] {
                assert_eq!(waiter.receive(), Reply::from("v"));
            }
            writer.must_int(&format!("LLEN {{{c}}}end"), 0);
            writer.call(&format!("DEL {{{a}}}other {{{b}}}other"));
        }
        // Two wait for the same, which comes in a transaction together with what a third waits for.
        first.send(&format!("BLPOP {a} 0"));
        until_blocked(&mut writer, 1);
        second.send(&format!("BRPOP {a} 0"));
        until_blocked(&mut writer, 2);
        third.send(&format!("BZPOPMIN {b} 0"));
        until_blocked(&mut writer, 3);
        writer.must_ok("MULTI");
        writer.must_queue(&format!("RPUSH {a} 1 2 3"));
        writer.must_queue(&format!("ZADD {b} 1 x 2 y"));
        writer.must_reply("EXEC", Reply::array([3, 2]));
        writer.must_reply(&format!("LRANGE {a} 0 -1"), Reply::array(["2"]));
        writer.must_reply(&format!("ZRANGE {b} 0 -1"), Reply::array(["y"]));
        assert_eq!(first.receive(), Reply::array([a, "1"]));
        assert_eq!(second.receive(), Reply::array([a, "3"]));
        assert_eq!(third.receive(), Reply::array([b, "x", "1"]));
        writer.call(&format!("DEL {a} {b}"));
    });
}

#[test]
fn a_writer_waits_for_a_chain_that_began_before_it_had_its_answer() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let [a, b, c] = [0, 1, 2].map(|index| shards.key_on(index, "k"));
    let [near, far] = [0, 2].map(|index| FaultProxy::start(shards.servers()[index].address()));
    let weft = Weft::setup(&shards).through(&near, &shards.servers()[0]).through(&far, &shards.servers()[2]).start();
    let (mut first, mut second, mut writer) = (weft.client(), weft.client(), weft.client());
    first.send(&format!("BLMOVE {a} {b} LEFT RIGHT 0"));
    until_blocked(&mut writer, 1);
    second.send(&format!("BLMOVE {b} {c} LEFT RIGHT 0"));
    until_blocked(&mut writer, 2);
    near.set(Way::Replies, "told", Fault::Hold);
    far.set(Way::Requests, &c, Fault::Hold);
    writer.send(&format!("EVAL redis.call('rpush',KEYS[1],'v')return'told' 1 {a}"));
    near.must_spring();
    // It looks by itself, and is gone before the writer is answered.
    assert_eq!(first.receive(), Reply::from("v"));
    far.must_spring();
    near.release();
    writer.must_stay_silent(QUIET);
    far.release();
    assert_eq!(writer.receive(), Reply::from("told"));
    assert_eq!(second.receive(), Reply::from("v"));
    writer.must_reply(&format!("LRANGE {c} 0 -1"), Reply::array(["v"]));
}

#[test]
fn an_element_is_moved_between_shards_when_it_comes() {
    everywhere(|weft, [a, b, c]| {
        let (mut waiter, mut writer) = (weft.client(), weft.client());
        waiter.send(&format!("BLMOVE {a} {b} LEFT RIGHT 0"));
        until_blocked(&mut writer, 1);
        writer.must_int(&format!("RPUSH {a} 1 2"), 2);
        assert_eq!(waiter.receive(), Reply::from("1"));
        waiter.must_bulk(&format!("BRPOPLPUSH {a} {b} 0"), "2");
        writer.must_reply(&format!("LRANGE {b} 0 -1"), Reply::array(["2", "1"]));
        waiter.must_bulk(&format!("RPOPLPUSH {b} {c}"), "1");
        waiter.must_bulk(&format!("LMOVE {b} {b} LEFT RIGHT"), "2");
        waiter.must_nil(&format!("LMOVE {a} {c} LEFT RIGHT"));
        waiter.must_reply(&format!("BLMOVE {a} {b} LEFT RIGHT 0.01"), Reply::NilArray);
        // Into something else than a list nothing is moved.
        writer.must_ok(&format!("SET {a} string"));
        waiter.must_err(&format!("BLMOVE {b} {a} LEFT RIGHT 0"), "WRONGTYPE");
        waiter.must_err(&format!("BLMOVE {a} {b} LEFT RIGHT 0"), "WRONGTYPE");
        writer.must_reply(&format!("LRANGE {b} 0 -1"), Reply::array(["2"]));
    });
}

#[test]
fn sorted_sets_and_streams_are_waited_for() {
    everywhere(|weft, [a, b, c]| {
        let mut writer = weft.client();
        for mut waiter in [weft.client(), weft.client_resp3()] {
            waiter.send(&format!("BZPOPMIN {a} {b} 0"));
            until_blocked(&mut writer, 1);
            writer.must_int(&format!("ZADD {b} 1.5 m"), 1);
            let reply = waiter.receive();
            let items = reply.items().expect("an array");
            assert_eq!(&items[..2], [b.into(), "m".into()]);

            waiter.send(&format!("BZMPOP 0 2 {a} {c} MAX COUNT 2"));
            until_blocked(&mut writer, 1);
            writer.must_int(&format!("ZADD {c} 1 x 2 y"), 2);
            let reply = waiter.receive();
            assert_eq!(reply.items().expect("an array")[0], c.into());
            writer.must_int(&format!("EXISTS {c}"), 0);

            waiter.send(&format!("BLMPOP 0 2 {a} {b} LEFT COUNT 5"));
            until_blocked(&mut writer, 1);
            writer.must_int(&format!("RPUSH {b} 1 2"), 2);
            assert_eq!(waiter.receive(), Reply::Array(vec![b.into(), Reply::array(["1", "2"])]));

            writer.call(&format!("XADD {a} 1-1 old entry"));
            waiter.send(&format!("XREAD BLOCK 0 STREAMS {a} {c} $ $"));
            until_blocked(&mut writer, 1);
            writer.must_bulk(&format!("XADD {c} 5-1 f v"), "5-1");
            let entries = Reply::Array(vec![Reply::Array(vec!["5-1".into(), Reply::array(["f", "v"])])]);
            match waiter.receive() {
                Reply::Map(streams) => assert_eq!(streams, [(c.into(), entries)]),
                reply => assert_eq!(reply, Reply::Array(vec![Reply::Array(vec![c.into(), entries])])),
            }
            let reply = waiter.call(&format!("XREAD COUNT 1 STREAMS {c} {a} 0 0"));
            assert!(
                matches!(&reply, Reply::Array(streams) if streams.len() == 2)
                    || matches!(&reply, Reply::Map(streams) if streams.len() == 2)
            );
            writer.must_int(&format!("DEL {a} {b} {c}"), 2);
        }
    });
}

#[test]
fn a_group_of_consumers_waits() {
    everywhere(|weft, [a, b, _]| {
        let (mut waiter, mut writer) = (weft.client(), weft.client());
        writer.must_ok(&format!("XGROUP CREATE {a} g $ MKSTREAM"));
        writer.must_ok(&format!("XGROUP CREATE {b} g $ MKSTREAM"));
        waiter.send(&format!("XREADGROUP GROUP g me BLOCK 0 STREAMS {a} {b} > >"));
        until_blocked(&mut writer, 1);
        writer.must_bulk(&format!("XADD {b} 1-1 f v"), "1-1");
        let entries = Reply::Array(vec![Reply::Array(vec!["1-1".into(), Reply::array(["f", "v"])])]);
        assert_eq!(waiter.receive(), Reply::Array(vec![Reply::Array(vec![b.into(), entries])]));
        writer.must_int(&format!("XACK {b} g 1-1"), 1);
        waiter.must_reply(&format!("XREADGROUP GROUP g me BLOCK 20 STREAMS {a} {b} > >"), Reply::NilArray);
        waiter.must_err(&format!("XREADGROUP GROUP none me BLOCK 0 STREAMS {a} >"), "NOGROUP");
    });
}

#[test]
fn what_a_plain_server_answers_at_once_weft_answers_in_the_same_bytes() {
    let server = Server::start(Flavor::Redis, &[]);
    let shards = Shards::fixed(Flavor::Redis, 3);
    let weft = Weft::start(&shards);
    let pairs = [(server.client(), weft.client()), (Client::connect_resp3(server.address()), weft.client_resp3())];
    for (mut plain, mut through) in pairs {
        for command in [
            "DEL l z s x {x}y",
            "BLPOP l 0.01",
            "BRPOP l m 0.01",
            "BLMOVE l m LEFT RIGHT 0.01",
            "BRPOPLPUSH l m 0.01",
            "BLMPOP 0.01 2 l m LEFT",
            "BZPOPMIN z 0.01",
            "BZPOPMAX z 0.01",
            "BZMPOP 0.01 1 z MIN",
            "XREAD BLOCK 10 STREAMS x $",
            "BLPOP l -1",
            "BLPOP l x",
            "BLPOP l inf",
            "BLPOP l 0x7FFFFFFFFFFFFFFF",
            "BLPOP l",
            "BLMOVE l m UP LEFT 0",
            "BLMOVE l m LEFT LEFT x",
            "BLMPOP 0 0 l LEFT",
            "BLMPOP 0 x l LEFT",
            "BLMPOP 0 1 l UP",
            "BLMPOP 0 1 l LEFT COUNT 0",
            "BLMPOP 0 1 l LEFT COUNT 1 COUNT 1",
            "BLMPOP -1 0 l LEFT",
            "BZMPOP 0 9 z MIN",
            "XREAD BLOCK x STREAMS x 0",
            "XREAD BLOCK -1 STREAMS x 0",
            "XREAD BLOCK 1 x 0",
            "XREAD BLOCK 1 STREAMS x y 0",
            "XREAD BLOCK 1 STREAMS x nonsense",
            "XREADGROUP GROUP g c BLOCK 0 STREAMS x >",
            "SET s v",
            "BLPOP s 0",
            "BLPOP l s 0",
            "BZPOPMIN s 0",
            "XREAD BLOCK 0 STREAMS s $",
            "RPUSH l 1 2 3 4 5 6 7",
            "BLPOP m l 0",
            "BRPOP l 0",
            "BLMPOP 0 2 m l RIGHT COUNT 2",
            "BLMOVE l m LEFT RIGHT 0",
            "BRPOPLPUSH l m 0",
            "ZADD z 1 a 2.5 b 3 c 4 d",
            "BZPOPMIN y z 0",
            "BZPOPMAX z 0",
            "BZMPOP 0 1 z MIN COUNT 3",
            "XADD x 1-1 f v",
            "XREAD BLOCK 0 STREAMS x 0",
            "XREAD COUNT 1 BLOCK 5 STREAMS x {x}y 0 0",
            "MULTI",
            "BLPOP nothing 0",
            "BLMOVE nothing nothing LEFT RIGHT 0",
            "BZPOPMIN nothing 0",
            "EXEC",
            "CLIENT UNBLOCK 123456",
            "CLIENT UNBLOCK x",
            "CLIENT UNBLOCK 1 SOON",
            "DEL l m z s x",
        ] {
            assert_eq!(through.call(command), plain.call(command), "{command}");
        }
    }
}

#[test]
fn time_outs_are_kept() {
    everywhere(|weft, [a, b, _]| {
        let mut waiter = weft.client();
        let start = Instant::now();
        waiter.must_reply(&format!("BLPOP {a} {b} 0.2"), Reply::NilArray);
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(200) && waited < Duration::from_secs(5), "{waited:?}");
    });
}

#[test]
fn who_comes_first_is_served_first() {
    everywhere(|weft, [key, ..]| {
        let mut writer = weft.client();
        let mut waiters: Vec<Client> = Vec::new();
        for number in 1..=5 {
            let mut waiter = weft.client();
            waiter.send(&format!("BLPOP {key} 0"));
            waiters.push(waiter);
            until_blocked(&mut writer, number);
        }
        for (number, waiter) in waiters.iter_mut().enumerate() {
            writer.call(&format!("RPUSH {key} {number}"));
            assert_eq!(waiter.receive(), Reply::array([key, &number.to_string()]));
        }
    });
}

#[test]
fn nothing_is_lost_or_given_twice_by_two_proxies_whose_clients_come_and_go() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let proxies = [Weft::start(&shards), Weft::start(&shards)];
        let keys = [0, 1, 2].map(|index| shards.key_on(index, "queue"));
        let mut writer = proxies[0].client();
        let gone: Vec<Client> = (0..10)
            .map(|number| {
                let mut client = proxies[number % 2].client();
                client.send(&format!("BLPOP {} {} 0", keys[number % 3], keys[(number + 1) % 3]));
                client
            })
            .collect();
        until_blocked(&mut writer, 5);
        drop(gone);
        until_blocked(&mut writer, 0);
        eventually(PATIENCE, "the other proxy has noticed too", || blocked_clients(&mut proxies[1].client()) == 0);

        const COUNT: usize = 60;
        let readers: Vec<_> = (0..6)
            .map(|number| {
                let (mut client, keys) = (proxies[number % 2].client(), keys.clone());
                std::thread::spawn(move || {
                    let pop = format!("BLPOP {} 0.7", keys.join(" "));
                    std::iter::from_fn(|| Some(client.call(&pop).items()?.get(1)?.text().expect("an element"))).collect::<Vec<_>>()
                })
            })
            .collect();
        for number in 0..COUNT {
            writer.call(&format!("RPUSH {} {number}", keys[number % 3]));
        }
        let mut seen: Vec<usize> =
            readers.into_iter().flat_map(|reader| reader.join().unwrap()).map(|text| text.parse().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..COUNT).collect::<Vec<_>>());
    }
}

#[test]
fn a_client_that_waits_can_be_released_and_what_it_sent_behind_is_carried_out() {
    everywhere(|weft, [a, b, _]| {
        let (mut waiter, mut other) = (weft.client(), weft.client());
        let Reply::Integer(id) = waiter.call("CLIENT ID") else { panic!("an id") };
        waiter.send(&format!("GET {b}"));
        waiter.send(&format!("BLPOP {a} 0"));
        waiter.send("PING");
        assert_eq!(waiter.receive(), Reply::Nil);
        until_blocked(&mut other, 1);
        let is_shown = |line: &str| line.contains(&format!("id={id} ")) && line.contains(" flags=b ");
        eventually(PATIENCE, "CLIENT LIST shows it", || other.call("CLIENT LIST").text().unwrap().lines().any(is_shown));
        waiter.must_stay_silent(QUIET);
        other.must_int(&format!("CLIENT UNBLOCK {id}"), 1);
        assert_eq!(waiter.receive(), Reply::NilArray);
        assert_eq!(waiter.receive(), Reply::Simple("PONG".to_owned()));
        other.must_int(&format!("CLIENT UNBLOCK {id}"), 0);

        waiter.send(&format!("BLPOP {a} 0"));
        waiter.send("QUIT");
        until_blocked(&mut other, 1);
        other.must_int(&format!("CLIENT UNBLOCK {id} ERROR"), 1);
        assert_eq!(waiter.receive(), Reply::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK".to_owned()));
        assert_eq!(waiter.receive(), Reply::ok());
        waiter.must_be_closed();
    });
}

#[test]
fn many_who_wait_cost_no_connections() {
    let shards = Shards::fixed(Flavor::Redis, 3);
    let weft = Weft::start(&shards);
    let mut other = weft.client();
    let clients: Vec<Client> = (0..300)
        .map(|number| {
            let mut client = weft.client();
            client.send(&format!("BLPOP many{number} 0"));
            client
        })
        .collect();
    until_blocked(&mut other, 300);
    for server in shards.servers() {
        let list = server.client().call("CLIENT LIST").text().unwrap();
        assert!(list.lines().count() < 12, "{list}");
    }
    drop(clients);
    until_blocked(&mut other, 0);
}

#[test]
fn a_stream_that_goes_away_ends_the_waiting_for_its_entries() {
    everywhere(|weft, keys| {
        let (mut waiter, mut writer) = (weft.client(), weft.client());
        let gone = "UNBLOCKED the stream key no longer exists";
        let destroyed = "NOGROUP the consumer group this client was blocked on no longer exists";
        for key in keys {
            let ways = [(format!("DEL {key}"), gone), (format!("SET {key} v"), gone), (format!("XGROUP DESTROY {key} g"), destroyed)];
            for (change, error) in ways {
                writer.call(&format!("DEL {key}"));
                writer.must_ok(&format!("XGROUP CREATE {key} g $ MKSTREAM"));
                waiter.send(&format!("XREADGROUP GROUP g me BLOCK 0 STREAMS {key} >"));
                until_blocked(&mut writer, 1);
                writer.call(&change);
                assert_eq!(waiter.receive(), Reply::Error(error.into()), "{change}");
            }
            writer.call(&format!("DEL {key}"));
            waiter.must_err(&format!("XREADGROUP GROUP g me BLOCK 0 STREAMS {key} >"), "NOGROUP No such key");
        }
    });
}

#[test]
fn who_comes_to_a_stream_first_looks_before_it_is_taken_away() {
    let shards = Shards::fixed(Flavor::Redis, 1);
    let proxy = FaultProxy::start(shards.servers()[0].address());
    let weft = Weft::setup(&shards).through(&proxy, &shards.servers()[0]).start();
    let (mut waiter, mut writer, mut other) = (weft.client(), weft.client(), weft.client());
    let transaction = |writer: &mut Client| ["MULTI", "DEL s", "EXEC"].iter().for_each(|command| writer.send(*command));
    let ways: [&dyn Fn(&mut Client); 5] = [
        &|writer| writer.send("SET s v"),
        &|writer| writer.send("DEL s t"),
        &|writer| writer.send("FLUSHALL"),
        &|writer| writer.send("EVAL return(redis.call('del',KEYS[1])) 1 s"),
        &transaction,
    ];
    for take_away in ways {
        other.must_bulk("XADD s 1-1 f v", "1-1");
        proxy.set(Way::Requests, "XREVRANGE", Fault::Hold);
        waiter.send("XREAD BLOCK 0 STREAMS s $");
        proxy.must_spring();
        take_away(&mut writer);
        other.must_bulk("XADD s 1-2 f v", "1-2");
        proxy.release();
        until_blocked(&mut other, 1);
        eventually(PATIENCE, "the stream is gone", || other.call("TYPE s") != Reply::Simple("stream".to_owned()));
        other.call("DEL s");
        other.must_bulk("XADD s 2-1 f v", "2-1");
        let entries = Reply::Array(vec![Reply::Array(vec!["2-1".into(), Reply::array(["f", "v"])])]);
        assert_eq!(waiter.receive(), Reply::Array(vec![Reply::Array(vec!["s".into(), entries])]));
        other.call("DEL s");
        writer = weft.client();
    }
}

#[test]
fn an_element_that_cannot_be_moved_ends_the_waiting_and_stays() {
    everywhere(|weft, [a, b, _]| {
        let (mut waiter, mut writer) = (weft.client(), weft.client());
        writer.must_ok(&format!("SET {b} text"));
        waiter.send(&format!("BLMOVE {a} {b} LEFT RIGHT 0"));
        until_blocked(&mut writer, 1);
        writer.must_int(&format!("RPUSH {a} 1"), 1);
        assert_eq!(waiter.receive(), Reply::Error("WRONGTYPE Operation against a key holding the wrong kind of value".into()));
        writer.must_reply(&format!("LRANGE {a} 0 -1"), Reply::array(["1"]));
    });
}
