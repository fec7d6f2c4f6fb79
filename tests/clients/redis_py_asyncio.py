"""redis-py's asyncio client before weft, in RESP2 and RESP3: `redis_py_asyncio.py PORT X Y Z`, where X, Y and Z are keys on three shards."""

import asyncio
import sys

import redis
from redis.asyncio import Redis

port, (x, y, z) = int(sys.argv[1]), sys.argv[2:5]


def connected(protocol):
    return Redis(host="127.0.0.1", port=port, protocol=protocol, decode_responses=True, socket_timeout=30, client_name="matrix")


async def handshake(r, protocol):
    assert await r.ping() and await r.client_getname() == "matrix"
    info = await r.client_info()
    assert (info["lib-name"], info["resp"]) == ("redis-py", str(protocol)), info


async def types(r, _):
    assert await r.mset({x: 1, y: 2}) and await r.mget(x, y, z) == ["1", "2", None]
    assert await r.delete(x, y, z) == 2
    assert await r.hset(x, mapping={"a": 1}) == 1 and await r.hgetall(x) == {"a": "1"}
    assert await r.rpush(y, "a", "b") == 2 and await r.lmove(y, z, "LEFT", "RIGHT") == "a"
    assert await r.delete(x, y, z) == 3
    assert await r.sadd(x, "a", "b") == 2 and await r.sadd(y, "b", "c") == 2 and await r.sinter(x, y) == {"b"}
    assert await r.zadd(z, {"a": 1, "b": 2.5}) == 2 and await r.zscore(z, "b") == 2.5
    assert await r.delete(x, y, z) == 3
    assert await r.pfadd(y, "a", "b") and await r.pfadd(z, "b", "c") and await r.pfcount(y, z) == 3
    assert await r.xadd(x, {"a": "b"}, id="1-1") == "1-1" and await r.xrange(x) == [("1-1", {"a": "b"})]
    assert {x, y, z} <= {key async for key in r.scan_iter(match="k*", count=1000)}
    assert await r.delete(x, y, z) == 3


async def transactions(r, protocol):
    async with r.pipeline() as pipe:
        replies = await pipe.set(x, 1).incr(y).lpush(x, "a").hset(z, "a", 1).execute(raise_on_error=False)
    assert replies[:2] + replies[3:] == [True, 1, 1] and "WRONGTYPE" in str(replies[2]), replies
    other = connected(protocol)
    async with r.pipeline() as pipe:
        await pipe.watch(x, y)
        await other.set(y, "theirs")
        pipe.multi()
        try:
            await pipe.set(x, "mine").set(y, "mine").execute()
            raise AssertionError("the watch was to be broken")
        except redis.WatchError:
            pass
    assert await other.mget(x, y) == ["1", "theirs"]
    await other.aclose()
    assert await r.delete(x, y, z) == 3

    async with r.pipeline(transaction=False) as pipe:
        for number in range(300):
            pipe.incr((x, y, z)[number % 3])
        assert await pipe.execute() == [number // 3 + 1 for number in range(300)]
    assert await r.delete(x, y, z) == 3


async def pub_sub(r, _):
    async with r.pubsub() as pubsub:
        await pubsub.subscribe(x)
        await pubsub.psubscribe(f"{y}:*")
        assert [(await hear(pubsub))["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
        assert await r.publish(x, "one") == 1 and (await hear(pubsub))["data"] == "one"
        assert await r.publish(f"{y}:a", "two") == 1 and (await hear(pubsub))["channel"] == f"{y}:a"


async def hear(pubsub):
    message = await pubsub.get_message(timeout=30)
    assert message, "nothing was heard"
    return message


async def blocking(r, _):
    popped, pushed = await asyncio.gather(r.blpop([x, y, z], 20), r.rpush(z, "a", "b"))
    assert list(popped) == [z, "a"] and pushed == 2
    assert await r.blmove(z, x, 20) == "b"
    assert await r.blpop([y, z], 0.05) is None
    assert await r.delete(x) == 1


async def scripts(r, _):
    move = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert await move([x], [5]) == 5
    async with r.pipeline() as pipe:
        await move([x], [1], client=pipe)
        await move([y], [2], client=pipe)
        assert await pipe.incr(z).execute() == [6, 2, 1]
    assert await r.delete(x, y, z) == 3


async def main():
    for protocol in (2, 3):
        client = connected(protocol)
        for check in (handshake, types, transactions, pub_sub, blocking, scripts):
            await check(client, protocol)
            print(check.__name__, f"RESP{protocol}")
        await client.aclose()


asyncio.run(main())
