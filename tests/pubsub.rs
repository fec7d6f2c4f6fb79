//! Publish and subscribe, through several proxies before several shards.

use crate::support::{Client, Flavor, Mode, PATIENCE, Reply, Server, Shards, Weft, eventually};

fn message(channel: &str, text: &str) -> Reply {
    Reply::array(["message", channel, text])
}

fn confirmation(word: &str, name: &str, count: i64) -> Reply {
    Reply::Array(vec![word.into(), name.into(), count.into()])
}

/// Runs `test` with two proxies and three channels on three shards, in every mode.
fn everywhere(test: impl Fn(&[Weft; 2], [&str; 3])) {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let proxies = [Weft::start(&shards), Weft::start(&shards)];
        let names = [0, 1, 2].map(|index| shards.key_on(index, "news"));
        test(&proxies, names.each_ref().map(String::as_str));
    }
}

#[test]
fn a_message_reaches_the_subscribers_of_every_proxy() {
    everywhere(|proxies, channels| {
        let mut listeners: Vec<Client> = (0..6).map(|number| proxies[number % 2].client()).collect();
        for listener in &mut listeners {
            listener.send(&format!("SUBSCRIBE {} {} {}", channels[0], channels[1], channels[2]));
            for (number, channel) in channels.iter().enumerate() {
                assert_eq!(listener.receive(), confirmation("subscribe", channel, number as i64 + 1));
            }
        }
        let mut publishers = [proxies[0].client(), proxies[1].client_resp3()];
        for (number, channel) in channels.iter().enumerate() {
            for publisher in &mut publishers {
                let Reply::Integer(receivers) = publisher.call(&["PUBLISH", channel, "some text"]) else { panic!("a number") };
                // Three clients of its own process, and at least one for the other's.
                assert!((4..=6).contains(&receivers), "{number}: {receivers}");
            }
            for listener in &mut listeners {
                assert_eq!(listener.receive(), message(channel, "some text"));
                assert_eq!(listener.receive(), message(channel, "some text"));
            }
        }
        drop(listeners);
        for publisher in &mut publishers {
            eventually(PATIENCE, "nobody listens any more", || publisher.call(&["PUBLISH", channels[0], "x"]) == 0.into());
        }
    });
}

#[test]
fn a_pattern_hears_each_matching_channel_once() {
    everywhere(|proxies, channels| {
        let mut listener = proxies[0].client();
        listener.must_reply("PSUBSCRIBE news*", confirmation("psubscribe", "news*", 1));
        listener.must_reply("PSUBSCRIBE *", confirmation("psubscribe", "*", 2));
        let mut publisher = proxies[1].client();
        for channel in channels {
            publisher.call(&["PUBLISH", channel, "x"]);
            let heard = [listener.receive(), listener.receive()];
            assert!(heard.contains(&Reply::array(["pmessage", "*", channel, "x"])), "{heard:?}");
            assert!(heard.contains(&Reply::array(["pmessage", "news*", channel, "x"])), "{heard:?}");
        }
        let mut own = proxies[0].client();
        own.must_int("PUBSUB NUMPAT", 2);
        own.must_int("PUBLISH elsewhere x", 1);
        own.must_int(&format!("PUBLISH {} x", channels[0]), 2);
        listener.receive();
        listener.receive();
        listener.receive();
        listener.send("PUNSUBSCRIBE");
        listener.receive();
        assert_eq!(listener.receive().items().expect("an array")[2], 0.into());
        eventually(PATIENCE, "no patterns are left", || publisher.call("PUBSUB NUMPAT") == 0.into());
    });
}

#[test]
fn who_has_unsubscribed_is_not_counted() {
    everywhere(|proxies, channels| {
        let (mut listener, mut publisher) = (proxies[0].client(), proxies[1].client());
        for _ in 0..20 {
            listener.send(&format!("SUBSCRIBE {} {}", channels[0], channels[1]));
            (0..2).for_each(|_| drop(listener.receive()));
            listener.must_reply("PSUBSCRIBE news*", confirmation("psubscribe", "news*", 3));
            publisher.must_int(&format!("PUBLISH {} x", channels[0]), 2);
            (0..2).for_each(|_| drop(listener.receive()));
            listener.must_reply("PUNSUBSCRIBE", confirmation("punsubscribe", "news*", 2));
            publisher.must_int("PUBSUB NUMPAT", 0);
            listener.send("UNSUBSCRIBE");
            (0..2).for_each(|_| drop(listener.receive()));
            for channel in channels {
                publisher.must_int(&format!("PUBLISH {channel} x"), 0);
            }
        }
    });
}

#[test]
fn what_a_plain_server_answers_weft_answers_in_the_same_bytes() {
    let server = Server::start(Flavor::Redis, &[]);
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let weft = Weft::start(&shards);
        let clients = [
            ([server.client(), server.client()], [weft.client(), weft.client()]),
            ([Client::connect_resp3(server.address()), server.client()], [weft.client_resp3(), weft.client()]),
        ];
        for ([mut plain, mut plain_publisher], [mut through, mut publisher]) in clients {
            // The number of replies that each command is answered by.
            for (replies, command) in [
                (1, "UNSUBSCRIBE"),
                (1, "PUNSUBSCRIBE"),
                (1, "SUNSUBSCRIBE"),
                (2, "UNSUBSCRIBE a b"),
                (3, "SUBSCRIBE a b a"),
                (1, "PSUBSCRIBE a*"),
                (1, "SSUBSCRIBE s"),
                (1, "GET k"),
                (1, "CLIENT ID x"),
                (1, "MULTI"),
                (1, "PING"),
                (1, "PING hello"),
                (1, "UNSUBSCRIBE b"),
                (1, "PUNSUBSCRIBE a*"),
                (1, "SUNSUBSCRIBE s"),
                (1, "UNSUBSCRIBE"),
                (1, "EXEC"),
                (1, "DISCARD"),
                (1, "SUBSCRIBE"),
                (1, "PUBLISH a"),
                (1, "SUBSCRIBE a"),
                (1, "RESET"),
                (1, "PING"),
                (1, "PUBSUB NUMSUB"),
                (1, "PUBSUB CHANNELS nothing"),
                (1, "PUBSUB NONSENSE"),
                (1, "PUBSUB HELP"),
                (1, "SUBSCRIBE a"),
                (1, "PSUBSCRIBE ?"),
            ] {
                plain.send(command);
                through.send(command);
                for _ in 0..replies {
                    assert_eq!(through.receive(), plain.receive(), "{command} {mode:?}");
                }
            }
            for command in ["PUBLISH a x", "PUBLISH b x", "PUBLISH ab x", "PUBSUB NUMSUB a b", "PUBSUB CHANNELS", "PUBSUB NUMPAT"] {
                assert_eq!(publisher.call(command), plain_publisher.call(command), "{command} {mode:?}");
            }
            assert_eq!([(); 3].map(|()| through.receive()), [(); 3].map(|()| plain.receive()), "{mode:?}");
            drop((plain, through));
            eventually(PATIENCE, "all is forgotten", || {
                publisher.call("PUBSUB CHANNELS") == Reply::Array(Vec::new())
                    && plain_publisher.call("PUBSUB CHANNELS") == Reply::Array(Vec::new())
            });
        }
    }
}

#[test]
fn resp3_clients_do_other_things_while_they_listen() {
    everywhere(|proxies, [channel, ..]| {
        let mut client = proxies[0].client_resp3();
        let heard = |text: &str| Reply::Push(vec!["message".into(), channel.into(), text.into()]);
        client.must_reply(&format!("SUBSCRIBE {channel}"), Reply::Push(vec!["subscribe".into(), channel.into(), 1.into()]));
        client.must_ok("SET k v");
        // To itself: the message may come before or after the number, never inside of anything.
        client.send(&format!("PUBLISH {channel} self"));
        let mut both = [client.receive(), client.receive()];
        both.sort_by_key(|reply| matches!(reply, Reply::Push(_)));
        assert_eq!(both, [1.into(), heard("self")]);
        client.must_ok("MULTI");
        client.must_queue("INCR n");
        client.must_queue(&format!("PUBLISH {channel} committed"));
        client.must_queue("GET k");
        client.send("EXEC");
        assert_eq!(client.receive(), Reply::Array(vec![1.into(), 1.into(), "v".into()]));
        assert_eq!(client.receive(), heard("committed"));
        // A client that waits hears messages all the same.
        client.send("BLPOP nothing 0");
        proxies[1].client().call(&["PUBLISH", channel, "waiting"]);
        assert_eq!(client.receive(), heard("waiting"));
        proxies[1].client().must_int("RPUSH nothing something", 1);
        assert_eq!(client.receive(), Reply::array(["nothing", "something"]));
    });
}

#[test]
fn who_is_told_of_a_write_finds_it() {
    everywhere(|proxies, channels| {
        let (mut listener, mut reader) = (proxies[0].client(), proxies[0].client());
        listener.send(&format!("SUBSCRIBE {} {} {}", channels[0], channels[1], channels[2]));
        (0..3).for_each(|_| drop(listener.receive()));
        let mut writer = proxies[1].client();
        for number in 0..60 {
            writer.send(&format!("SET key{number} {number}"));
            writer.send(&format!("PUBLISH {} {number}", channels[number % 3]));
        }
        // In the order of publication, whatever the channels.
        for number in 0..60 {
            assert_eq!(listener.receive(), message(channels[number % 3], &number.to_string()));
            reader.must_bulk(&format!("GET key{number}"), &number.to_string());
        }
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_disconnected() {
    let shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::setup(&shards).set("limits.client_output_bytes_max", 1024 * 1024).start();
    let (mut slow, mut publisher) = (weft.client(), weft.client());
    slow.must_reply("SUBSCRIBE a", confirmation("subscribe", "a", 1));
    let text = "x".repeat(64 * 1024);
    eventually(PATIENCE, "the slow one is gone", || publisher.call(&["PUBLISH", "a", &text]) == 0.into());
    publisher.must_reply("PING", Reply::Simple("PONG".to_owned()));
}

#[test]
fn a_shard_that_comes_back_is_listened_to_again() {
    let mut shards = Shards::fixed(Flavor::Redis, 2);
    let weft = Weft::start(&shards);
    let channel = shards.key_on(1, "news");
    // Channels are the first shard's, each shard channel is that of its slot's.
    for (shard, [subscribe, publish, word]) in
        [["SUBSCRIBE", "PUBLISH", "message"], ["SSUBSCRIBE", "SPUBLISH", "smessage"]].into_iter().enumerate()
    {
        let (mut listener, mut publisher) = (weft.client(), weft.client());
        listener.must_reply(&format!("{subscribe} {channel}"), confirmation(&subscribe.to_lowercase(), &channel, 1));
        shards.server(shard).process().kill();
        shards.server(shard).restart();
        eventually(PATIENCE, "somebody hears it again", || publisher.call(&[publish, &channel, "again"]) == 1.into());
        assert_eq!(listener.receive(), Reply::array([word, &channel, "again"]));
    }
}

#[test]
fn changes_of_keys_are_told_from_every_shard_without_wefts_own() {
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        for server in shards.servers() {
            server.client().must_ok("CONFIG SET notify-keyspace-events KEA");
        }
        let weft = Weft::start(&shards);
        let mut writer = weft.client();
        let patterns = ["__key*__:*", "*", "_*e*"];
        let mut listeners = patterns.map(|pattern| {
            let mut listener = weft.client();
            listener.must_reply(&format!("PSUBSCRIBE {pattern}"), confirmation("psubscribe", pattern, 1));
            listener
        });
        let keys = [0, 1, 2].map(|index| shards.key_on(index, "k"));
        writer.must_ok("MULTI");
        keys.iter().for_each(|key| writer.must_queue(&format!("SET {key} v")));
        writer.must_reply("EXEC", Reply::Array(vec![Reply::ok(), Reply::ok(), Reply::ok()]));
        let mut expected: Vec<String> =
            keys.iter().flat_map(|key| [format!("__keyspace@0__:{key} set"), format!("__keyevent@0__:set {key}")]).collect();
        expected.sort_unstable();
        for (listener, pattern) in listeners.iter_mut().zip(patterns) {
            let mut heard: Vec<String> = (0..6)
                .map(|_| listener.receive().items().expect("a message")[2..].iter().filter_map(Reply::text).collect::<Vec<_>>().join(" "))
                .collect();
            heard.sort_unstable();
            assert_eq!(heard, expected, "{pattern} {mode:?}");
        }
        // What is published all nodes of a cluster tell, and a client hears once.
        for channel in ["_me", "_it"] {
            writer.call(&["PUBLISH", channel, "x"]);
            assert_eq!(listeners[1].receive(), Reply::array(["pmessage", "*", channel, "x"]));
        }
    }
}

#[test]
fn who_mutes_replies_hears_confirmations_and_messages() {
    everywhere(|proxies, [channel, ..]| {
        for mut listener in [proxies[0].client(), proxies[0].client_resp3()] {
            let mut publisher = proxies[1].client();
            listener.send("CLIENT REPLY OFF");
            listener.send(&format!("SUBSCRIBE {channel}"));
            assert_eq!(listener.receive().items(), confirmation("subscribe", channel, 1).items());
            eventually(PATIENCE, "it listens", || publisher.call(&["PUBLISH", channel, "x"]) != 0.into());
            assert_eq!(listener.receive().items(), message(channel, "x").items());
            listener.send(&format!("UNSUBSCRIBE {channel}"));
            assert_eq!(listener.receive().items(), confirmation("unsubscribe", channel, 0).items());
            listener.send("PING");
            listener.send("CLIENT REPLY ON");
            assert_eq!(listener.receive(), Reply::ok());
        }
    });
}
