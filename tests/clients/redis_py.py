"""redis-py before weft, in RESP2 and RESP3: `redis_py.py PORT X Y Z`, where X, Y and Z are keys on three shards.

Pipelines, WATCH loops and locks have programs of their own, in tests/python.
"""

import sys
import threading
from contextlib import contextmanager

import redis

port, (x, y, z) = int(sys.argv[1]), sys.argv[2:5]


def connected(protocol, **options):
    return redis.Redis(host="127.0.0.1", port=port, protocol=protocol, decode_responses=True, socket_timeout=30, **options)


@contextmanager
def refused(text):
    try:
        yield
    except redis.ResponseError as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"this was to be refused with {text}")


def handshake(r, protocol):
    named = connected(protocol, client_name="matrix")
    assert named.ping() and named.client_getname() == "matrix"
    info = named.client_info()
    assert (info["lib-name"], info["resp"]) == ("redis-py", str(protocol)), info
    assert r.info("server")["redis_version"]
    named.close()


def types(r, protocol):
    assert r.set(x, "value", ex=100) and r.ttl(x) > 90
    raw = redis.Redis(host="127.0.0.1", port=port, protocol=protocol)
    raw.set(y, b"\0\r\n\xff")
    assert raw.get(y) == b"\0\r\n\xff"
    raw.close()
    assert r.mset({x: 1, y: 2}) and r.mget(x, y, z) == ["1", "2", None]
    assert r.incrbyfloat(x, 0.5) == 1.5
    assert r.delete(x, y, z) == 2

    assert r.hset(x, mapping={"a": 1, "b": 2}) == 2 and r.hgetall(x) == {"a": "1", "b": "2"}
    assert r.hincrby(x, "a", 5) == 6
    assert r.rpush(y, "a", "b", "c") == 3 and r.lmove(y, z, "LEFT", "RIGHT") == "a"
    assert (r.lrange(y, 0, -1), r.lrange(z, 0, -1)) == (["b", "c"], ["a"])
    assert r.delete(x, y, z) == 3

    assert r.sadd(x, "a", "b") == 2 and r.sadd(y, "b", "c") == 2
    assert r.sinter(x, y) == {"b"} and r.sunionstore(z, x, y) == 3 and r.smembers(z) == {"a", "b", "c"}
    assert r.delete(x, y, z) == 3

    assert r.zadd(x, {"a": 1, "b": 2.5}) == 2 and r.zscore(x, "b") == 2.5
    assert [tuple(pair) for pair in r.zrange(x, 0, -1, withscores=True)] == [("a", 1.0), ("b", 2.5)]
    assert r.zadd(y, {"b": 1}) == 1 and r.zinter([x, y]) == ["b"]
    assert r.delete(x, y) == 2

    entry = r.xadd(y, {"field": "value"})
    assert r.xadd(z, {"other": "shard"}, id="1-1") == "1-1" and r.xgroup_create(y, "group", "0")
    assert streams(r.xread({y: "0", z: "0"})) == {y: [(entry, {"field": "value"})], z: [("1-1", {"other": "shard"})]}
    assert streams(r.xreadgroup("group", "me", {y: ">"})) == {y: [(entry, {"field": "value"})]}
    assert r.xack(y, "group", entry) == 1
    assert r.delete(y, z) == 2

    assert r.setbit(x, 7, 1) == 0 and r.bitcount(x) == 1
    assert r.pfadd(y, "a", "b") and r.pfadd(z, "b", "c") and r.pfcount(y, z) == 3
    assert r.delete(x, y, z) == 3
    assert r.geoadd(x, (13.361, 38.115, "Palermo")) == 1
    assert r.geosearch(x, longitude=13, latitude=38, radius=100, unit="km") == ["Palermo"]
    assert r.mset({y: 1, z: 2}) and {x, y, z} <= set(r.scan_iter(match="k*", count=1000))
    assert r.delete(x, y, z) == 3


def streams(reply):
    """What was read, by stream: the shape of the reply depends on the protocol."""
    pairs = reply.items() if isinstance(reply, dict) else reply
    return {name: [tuple(entry) for entry in flat(entries)] for name, entries in pairs}


def flat(entries):
    return entries[0] if isinstance(entries[0], list) else entries


def transactions(r, protocol):
    with r.pipeline() as pipe:
        replies = pipe.set(x, 1).incr(y).lpush(x, "a").hset(z, "a", 1).hgetall(z).execute(raise_on_error=False)
    assert replies[:2] + replies[3:] == [True, 1, 1, {"a": "1"}] and "WRONGTYPE" in str(replies[2]), replies
    with r.pipeline() as pipe, refused("wrong number of arguments"):
        pipe.incr(x).execute_command("GET").incr(y).execute()
    assert r.mget(x, y) == ["1", "1"]

    other = connected(protocol)
    with r.pipeline() as pipe:
        pipe.watch(x, y)
        other.set(y, "theirs")
        pipe.multi()
        try:
            pipe.set(x, "mine").set(y, "mine").execute()
            raise AssertionError("the watch was to be broken")
        except redis.WatchError:
            pass
    with r.pipeline() as pipe:
        pipe.watch(x, y)
        pipe.multi()
        assert pipe.set(x, "mine").set(y, "mine").execute() == [True, True]
    assert other.mget(x, y) == ["mine", "mine"] and r.delete(x, y, z) == 3
    other.close()

    with r.pipeline(transaction=False) as pipe:
        for number in range(300):
            pipe.incr((x, y, z)[number % 3])
        assert pipe.execute() == [number // 3 + 1 for number in range(300)]
    assert r.delete(x, y, z) == 3


def pub_sub(r, protocol):
    subscriber = connected(protocol)
    with subscriber.pubsub(ignore_subscribe_messages=False) as pubsub:
        pubsub.subscribe(x)
        pubsub.psubscribe(f"{y}:*")
        assert [hear(pubsub)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
        assert r.publish(x, "one") == 1
        assert {**hear(pubsub)} == {"type": "message", "pattern": None, "channel": x, "data": "one"}
        assert r.publish(f"{y}:a", "two") == 1
        assert {**hear(pubsub)} == {"type": "pmessage", "pattern": f"{y}:*", "channel": f"{y}:a", "data": "two"}
        with r.pipeline() as pipe:
            assert pipe.publish(x, "three").incr(z).execute() == [1, 1]
        assert hear(pubsub)["data"] == "three"
        assert [tuple(pair) for pair in r.pubsub_numsub(x)] == [(x, 1)]
        pubsub.unsubscribe()
        pubsub.punsubscribe()
        assert [hear(pubsub)["type"] for _ in range(2)] == ["unsubscribe", "punsubscribe"]
    subscriber.close()
    assert r.delete(z) == 1


def hear(pubsub):
    message = pubsub.get_message(timeout=30)
    assert message, "nothing was heard"
    return message


def blocking(r, protocol):
    waiter = connected(protocol)

    def woken(wait, wake):
        """What `wait` gives, called on a thread of its own, when `wake` has happened."""
        replies = []
        thread = threading.Thread(target=lambda: replies.append(wait()))
        thread.start()
        wake()
        thread.join()
        return replies[0]

    assert list(woken(lambda: waiter.blpop([x, y, z], 20), lambda: r.rpush(z, "a", "b"))) == [z, "a"]
    assert waiter.blmove(z, x, 20) == "b"
    assert waiter.blpop([y, z], 0.05) is None
    assert list(woken(lambda: waiter.bzpopmin([y, z], 20), lambda: r.zadd(y, {"m": 1.5}))) == [y, "m", 1.5]
    read = woken(lambda: waiter.xread({y: "$", z: "0"}, block=20_000), lambda: r.xadd(z, {"a": "b"}, id="1-1"))
    assert streams(read) == {z: [("1-1", {"a": "b"})]}
    waiter.close()
    assert r.delete(x, z) == 2


def scripts(r, _):
    assert r.eval("return {KEYS[1], ARGV[1]}", 1, x, "a") == [x, "a"]
    try:
        r.evalsha("0" * 40, 1, x)
        raise AssertionError("nobody knows that script")
    except redis.exceptions.NoScriptError:
        pass
    move = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert move([x], [5]) == 5 and r.script_exists(move.sha) == [True]
    with r.pipeline() as pipe:
        move([x], [1], client=pipe)
        move([y], [2], client=pipe)
        assert pipe.incr(z).execute() == [6, 2, 1]
    assert r.delete(x, y, z) == 3


for protocol in (2, 3):
    client = connected(protocol)
    for check in (handshake, types, transactions, pub_sub, blocking, scripts):
        check(client, protocol)
        print(check.__name__, f"RESP{protocol}")
    client.close()
