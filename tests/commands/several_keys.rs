//! Commands whose keys lie on several shards.

use crate::support::{Client, PATIENCE, Reply, Weft, on_each};

#[test]
fn mget_answers_in_the_order_of_its_keys_with_doubles_wrong_types_and_missing_ones() {
    on_each(|stage| {
        stage.must_agree(
            "MSET X 1 Y 2 Z 3; MGET X Y Z; MGET Z X X Y Z missing X; DEL Y; LPUSH Y a; MGET X Y Z; MGET Y; MGET missing; MGET; \
             MGET X",
        );
    });
}

#[test]
fn mset_sets_all_and_the_last_value_of_a_key_wins() {
    on_each(|stage| {
        stage.must_agree(
            "MSET X 1 Y 2 X 3 Z 4 Y 5; MGET X Y Z; LPUSH missing-list a; DEL missing-list; MSET X; MSET X 1 Y; MSET; MGET X Y; \
             DEL X; LPUSH X a; MSET X over Y over; MGET X Y",
        );
    });
}

#[test]
fn msetnx_sets_all_or_none() {
    on_each(|stage| {
        stage.must_agree(
            "MSETNX X 1 Y 2; MGET X Y Z; MSETNX Z 3 Y 4; MGET X Y Z; MSETNX Z 3; MSETNX X 1 Y; DEL X Y Z; MSETNX X 1 X 2 Y 3; \
             MGET X Y Z",
        );
    });
}

#[test]
fn del_unlink_exists_and_touch_count_over_shards() {
    on_each(|stage| {
        stage.must_agree(
            "MSET X 1 Y 2 Z 3; EXISTS X Y Z; EXISTS X X Y missing X; TOUCH X X missing Z; DEL X X Y; EXISTS X Y Z; \
             UNLINK Z Z X; EXISTS X Y Z; DEL X Y Z; UNLINK X missing Y; TOUCH X Y; RPUSH X a; SADD Y a; DEL X Y; EXISTS; DEL; \
             TOUCH; UNLINK",
        );
    });
}

#[test]
fn a_command_over_one_shard_but_several_slots_is_whole() {
    on_each(|stage| {
        let [x, ..] = stage.keys();
        let mut client = stage.client();
        let same: Vec<String> = (0..).map(|n| format!("{x}:{n}")).filter(|key| stage.shards().shard_of(key) == 0).take(5).collect();
        let pairs: Vec<String> = same.iter().flat_map(|key| [key.clone(), "v".to_owned()]).collect();
        client.must_ok(&format!("MSET {}", pairs.join(" ")));
        client.must_reply(&format!("MGET {}", same.join(" ")), Reply::array(["v"; 5]));
        client.must_int(&format!("DEL {}", same.join(" ")), 5);
    });
}

#[test]
fn ten_thousand_keys_are_set_read_and_deleted_by_one_command_each() {
    on_each(|stage| {
        let [x, ..] = stage.keys();
        let keys: Vec<String> = (0..5_000).map(|n| format!("{x}:{n}")).collect();
        let mset: Vec<&str> = std::iter::once("MSET").chain(keys.iter().flat_map(|key| [key.as_str(), "value"])).collect();
        let with = |name| std::iter::once(name).chain(keys.iter().map(String::as_str)).collect::<Vec<&str>>();
        // That is as many participants in a cluster, and no matter of speed.
        let [patience, wait, lease] = ["patience_ms", "lock_wait_timeout_ms", "lease_ms"].map(|key| format!("transactions.{key}"));
        let weft = Weft::setup(stage.shards()).set(&patience, 60_000).set(&wait, 60_000).set(&lease, 60_000).start();
        let mut client = weft.client();
        client.set_patience(PATIENCE * 4);
        client.must_ok(&mset[..]);
        client.must_reply(&with("MGET")[..], Reply::array(vec!["value"; 5_000]));
        client.must_int(&with("EXISTS")[..], 5_000);
        client.must_int(&with("DEL")[..], 5_000);
        client.must_int(&with("UNLINK")[..], 0);
    });
}

#[test]
fn several_shards_at_once_are_split_or_refused_where_the_configuration_says_so() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let split = Weft::setup(stage.shards()).set("transactions.multi_key", "split").start();
        let mut client = split.client();
        client.must_ok(&format!("MSET {x} 1 {y} 2"));
        client.must_reply(&format!("MGET {x} {z} {y}"), Reply::Array(vec!["1".into(), Reply::Nil, "2".into()]));
        client.must_int(&format!("MSETNX {x} 1 {z} 2"), 0);
        client.must_int(&format!("DEL {x} {y} {z}"), 2);
        let reject = Weft::setup(stage.shards()).set("transactions.multi_key", "reject").start();
        let mut client = reject.client();
        client.must_err(&format!("MSET {x} 1 {y} 2"), "CROSSSLOT Keys in request don't hash to the same slot");
        client.must_err(&format!("MGET {x} {y}"), "CROSSSLOT");
        client.must_ok(&format!("MSET {x} 1 {{{x}}}b 2"));
        client.must_err(&format!("XREAD STREAMS {x} {y} 0 0"), "CROSSSLOT");
    });
}

#[test]
fn each_class_of_commands_is_treated_as_the_configuration_says() {
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        for (setting, per_mset, per_del) in [("{deletes: split}", 1, 0), ("{writes: split, deletes: atomic}", 0, 1)] {
            let weft = Weft::setup(stage.shards()).set("transactions.multi_key", setting).start();
            let mut client = weft.client();
            let transactions = |client: &mut Client| {
                let info = client.call("INFO weft").text().unwrap();
                let count = info.lines().find_map(|line| line.strip_prefix("txn_two_phase_committed:")).map(str::to_owned);
                count.unwrap().parse::<u32>().unwrap()
            };
            client.must_ok(&format!("MSET {x} 1 {y} 2 {z} 3"));
            assert_eq!(transactions(&mut client), per_mset, "{setting}");
            client.must_int(&format!("DEL {x} {y} {z}"), 3);
            assert_eq!(transactions(&mut client), per_mset + per_del, "{setting}");
        }
        let commands = [
            ("reads", format!("MGET {x} {y}")),
            ("writes", format!("MSET {x} 1 {y} 2")),
            ("deletes", format!("UNLINK {y} {z}")),
            ("computed", format!("RENAME {x} {z}")),
            ("scripts", format!("EVAL return{{}} 2 {x} {y}")),
        ];
        for (class, _) in &commands {
            let weft = Weft::setup(stage.shards()).set("transactions.multi_key", format!("{{{class}: reject}}")).start();
            let mut client = weft.client();
            for (other, command) in &commands {
                let reply = client.call(command.as_str());
                let refused = matches!(&reply, Reply::Error(error) if error.starts_with("CROSSSLOT"));
                assert_eq!(refused, class == other, "{class} is refused: {command} is answered {reply:?}");
            }
        }
    });
}
