"""redis-py's client-side cache before one weft, writers before another: `caching.py PORT X Y Z OTHER_PORT`."""

import sys
import time

import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

port, keys, other_port = int(sys.argv[1]), sys.argv[2:5], int(sys.argv[5])
PATIENCE_S = 20

# Older servers track keys just as well; redis-py is careful about other products that call themselves by these versions.
CacheProxyConnection.MIN_ALLOWED_VERSION = "6.0.0"

keeper = redis.Redis(host="127.0.0.1", port=port, protocol=3, cache_config=CacheConfig())
writer = redis.Redis(host="127.0.0.1", port=other_port)
cache = keeper.get_cache()


def eventually(*expected):
    """Sooner or later the keeper reads these values, and keeps them as long as nobody writes."""
    end = time.monotonic() + PATIENCE_S
    kept = len([value for value in expected if value is not None])
    while (values := [keeper.get(key) for key in keys]) != list(expected) or cache.size != kept:
        assert time.monotonic() < end, (values, expected, cache.size)
        time.sleep(0.001)


for key in keys:
    writer.set(key, "1")
eventually(b"1", b"1", b"1")

# Through another proxy: one key, a transaction over shards, an expiry, a deletion.
writer.set(keys[0], "2")
eventually(b"2", b"1", b"1")
with writer.pipeline(transaction=True) as pipe:
    for key in keys:
        pipe.set(key, "3")
    pipe.execute()
eventually(b"3", b"3", b"3")
writer.pexpire(keys[1], 100)
eventually(b"3", None, b"3")
writer.delete(*keys)
eventually(None, None, None)

# What it writes itself it reads at once.
for number in range(200):
    key = keys[number % 3]
    keeper.set(key, number)
    assert keeper.get(key) == str(number).encode(), (number, keeper.get(key))
    assert keeper.get(key) == str(number).encode(), (number, keeper.get(key))
