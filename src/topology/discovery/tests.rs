//! Replies as real nodes gave them, byte for byte, under `captured/`: four nodes, of which the first has 0-8191 and 16383, the second
//! 8192-16000 and the third as its replica, the fourth nothing. *alone*: before any slot was given; *unmet*: before nodes met.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::slot::Slot;
use crate::topology::ShardId;

macro_rules! captured {
    ($name:literal) => {
        &redis::parse_redis_value(include_bytes!(concat!("captured/", $name, ".resp"))).unwrap()
    };
}

fn node(port: u16) -> NodeAddr {
    NodeAddr::new("127.0.0.1", port).unwrap()
}

/// The map that both servers tell once the four nodes know each other, whose ports count up from `first`.
fn must_be_the_full_map(map: &SlotMap, first: u16, replicas: &[NodeAddr]) {
    assert_eq!(map.mode(), Mode::Cluster);
    assert_eq!(map.ranges(ShardId::new(0)), [0..=8191, 16383..=16383]);
    assert_eq!(map.ranges(ShardId::new(1)), [8192..=16000]);
    assert_eq!(map.owner(Slot::new(16001).unwrap()), None);
    assert_eq!(map.shards()[0].address, node(first));
    assert_eq!(map.shards()[1].address, node(first + 1));
    assert_eq!(map.shards()[1].replicas, replicas);
    assert!(map.shards().iter().all(|shard| shard.name.len() == 40));
}

#[test]
fn shards_replicas_and_primaries_without_slots_are_read() {
    for (reply, first) in [(captured!("redis7-replica-shards"), 27321), (captured!("valkey9-replica-shards"), 27331)] {
        let map = from_shards(reply, &node(first)).unwrap();
        must_be_the_full_map(&map, first, &[node(first + 2)]);
        assert_eq!(map.shards().len(), 3);
        assert_eq!((map.find(&node(first + 3)), map.ranges(ShardId::new(2))), (Some(ShardId::new(2)), vec![]));
    }
}

#[test]
fn a_dead_replica_is_left_out() {
    for (reply, first) in [(captured!("redis7-replica-dead-shards"), 27321), (captured!("valkey9-replica-dead-shards"), 27331)] {
        must_be_the_full_map(&from_shards(reply, &node(first)).unwrap(), first, &[]);
    }
}

#[test]
fn cluster_slots_tells_the_same_but_for_primaries_without_slots() {
    for (reply, first) in [(captured!("redis7-replica-slots"), 27321), (captured!("valkey9-replica-slots"), 27331)] {
        let map = from_slots(reply, &node(first)).unwrap();
        must_be_the_full_map(&map, first, &[node(first + 2)]);
        assert_eq!(map.shards().len(), 2);
    }
}

#[test]
fn a_node_that_does_not_know_its_address_is_where_it_was_asked() {
    let asked = NodeAddr::new("redis-0.redis", 9).unwrap();
    for map in [
        from_shards(captured!("redis7-unmet-shards"), &asked).unwrap(),
        from_slots(captured!("redis7-unmet-slots"), &asked).unwrap(),
        from_shards(captured!("redis7-alone-shards"), &asked).unwrap(),
    ] {
        assert_eq!(map.shards()[0].address, NodeAddr::new("redis-0.redis", 27321).unwrap());
    }
    for map in [
        from_shards(captured!("valkey9-unmet-shards"), &asked).unwrap(),
        from_slots(captured!("valkey9-unmet-slots"), &asked).unwrap(),
        from_shards(captured!("valkey9-alone-shards"), &asked).unwrap(),
    ] {
        assert_eq!(map.shards()[0].address, NodeAddr::new("redis-0.redis", 27331).unwrap());
    }
}

/// One shard of `CLUSTER SHARDS` that has all slots and these nodes, each its endpoint, role and health.
fn one_shard(nodes: &[(Value, &str, &str)]) -> Value {
    shard_of(&[0, 16383], nodes)
}

fn shard_of(slots: &[i64], nodes: &[(Value, &str, &str)]) -> Value {
    let bulk = |text: &str| Value::BulkString(text.into());
    let nodes = nodes.iter().zip(1..).map(|((endpoint, role, health), port)| {
        let fields = [
            ("id", bulk(&format!("id{port}"))),
            ("port", Value::Int(port)),
            ("ip", bulk("10.0.0.1")),
            ("endpoint", endpoint.clone()),
            ("role", bulk(role)),
            ("health", bulk(health)),
        ];
        Value::Map(fields.into_iter().map(|(name, value)| (bulk(name), value)).collect())
    });
    let slots = Value::Array(slots.iter().copied().map(Value::Int).collect());
    Value::Array(vec![Value::Map(vec![(bulk("slots"), slots), (bulk("nodes"), Value::Array(nodes.collect()))])])
}

#[test]
fn an_endpoint_is_a_name_or_unset_or_unknown() {
    for (endpoint, host) in [
        (Value::BulkString(b"a.example".into()), "a.example"),
        (Value::BulkString(b"?".into()), "10.0.0.1"),
        (Value::BulkString(b"".into()), "10.0.0.1"),
        (Value::Nil, "127.0.0.1"),
    ] {
        let map = from_shards(&one_shard(&[(endpoint, "master", "online")]), &node(9)).unwrap();
        assert_eq!(map.shards()[0].address.host(), host);
    }
}

#[test]
fn the_primary_is_the_healthiest_and_a_failed_one_keeps_its_slots() {
    let nodes = |list: &[(&str, &str)]| {
        let nodes: Vec<_> = list.iter().map(|(role, health)| (Value::Nil, *role, *health)).collect();
        from_shards(&one_shard(&nodes), &node(9)).unwrap()
    };
    assert_eq!(nodes(&[("master", "fail"), ("master", "online"), ("replica", "online")]).shards()[0].name, "id2");
    let failed = nodes(&[("master", "fail"), ("replica", "loading")]);
    assert_eq!((failed.covered(), failed.shards()[0].replicas.len()), (16384, 0));
    let headless = nodes(&[("replica", "online")]);
    assert_eq!((headless.covered(), headless.shards().len()), (0, 0));
}

#[test]
fn a_failed_primary_whose_slots_another_took_over_is_no_shard() {
    let primary = |health| shard_of(&[], &[(Value::Nil, "master", health)]);
    for (health, shards) in [("online", 1), ("loading", 1), ("fail", 0)] {
        assert_eq!(from_shards(&primary(health), &node(9)).unwrap().shards().len(), shards, "{health}");
    }
}

#[test]
fn what_is_no_reply_of_the_command_is_an_error() {
    let nonsense = [
        Value::Nil,
        Value::Okay,
        Value::Array(vec![Value::Nil]),
        Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(5)])]),
        Value::Array(vec![Value::Array(vec![Value::Int(5), Value::Int(0), Value::Array(vec![])])]),
        Value::Array(vec![Value::Array(vec![Value::BulkString(b"slots".into()), Value::Array(vec![Value::Int(1)])])]),
    ];
    for value in nonsense {
        assert!(from_shards(&value, &node(9)).is_err(), "{value:?}");
        assert!(from_slots(&value, &node(9)).is_err(), "{value:?}");
    }
    assert!(from_shards(&one_shard(&[(Value::BulkString(b"a b".into()), "master", "online")]), &node(9)).is_err());
}
