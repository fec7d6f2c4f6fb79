"""redis-py's pipelines through weft: `pipelines.py PORT X Y Z`, where X, Y and Z are keys on three shards."""

import sys

import redis

port, (x, y, z) = int(sys.argv[1]), sys.argv[2:5]

for protocol in (2, 3):
    r = redis.Redis(host="127.0.0.1", port=port, protocol=protocol, decode_responses=True)
    assert r.ping() and r.info()["redis_version"], "a server like any other"
    r.delete(x, y, z)

    with r.pipeline(transaction=True) as pipe:
        pipe.set(x, 1).incr(y).hset(z, mapping={"a": "1", "b": "2"}).hgetall(z).mget(x, y)
        assert pipe.execute() == [True, 1, 2, {"a": "1", "b": "2"}, ["1", "1"]], protocol

    # An error of one command is raised, and the others are applied all the same.
    with r.pipeline() as pipe:
        pipe.incr(x).lpush(x, "a").incr(y)
        try:
            pipe.execute()
            raise AssertionError("WRONGTYPE was to be raised")
        except redis.ResponseError as error:
            assert "WRONGTYPE" in str(error), error
    assert r.mget(x, y) == ["2", "2"]

    with r.pipeline() as pipe:
        pipe.incr(x).lpush(x, "a").incr(y)
        first, second, third = pipe.execute(raise_on_error=False)
        assert (first, third) == (3, 3) and isinstance(second, redis.ResponseError)

    # What cannot be queued aborts everything.
    with r.pipeline() as pipe:
        pipe.incr(x).execute_command("GET").incr(y)
        try:
            pipe.execute()
            raise AssertionError("the pipeline was to be aborted")
        except redis.ResponseError as error:
            assert "wrong number of arguments" in str(error), error
    assert r.mget(x, y) == ["3", "3"]

    with r.pipeline(transaction=False) as pipe:
        for _ in range(200):
            pipe.incr(x).incr(y).get(x).get(y)
        values = pipe.execute()
        assert values[0::4] == values[1::4] == list(range(4, 204))
        assert [int(value) for value in values[2::4]] == values[0::4]

    # Another client touches a watched key.
    other = redis.Redis(host="127.0.0.1", port=port)
    with r.pipeline() as pipe:
        pipe.watch(x, y)
        other.set(y, "theirs")
        pipe.multi()
        pipe.set(x, "mine").set(z + "unused", "mine")
        try:
            pipe.execute()
            raise AssertionError("the watch was to be broken")
        except redis.WatchError:
            pass
    assert r.get(x) == "203"

    assert r.zadd(z + "zset", {"m": 1.5}) == 1 and r.zscore(z + "zset", "m") == 1.5
    assert r.zincrby(z + "zset", 0.25, "m") == 1.75
    assert r.register_script("return redis.call('GET', KEYS[1])").sha
    assert r.eval("return redis.call('GET', KEYS[1])", 1, x) == "203"
    assert r.delete(x, y, z, z + "zset") == 4
    r.close()
    other.close()
