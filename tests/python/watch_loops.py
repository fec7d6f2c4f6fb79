"""Optimistic locking over shards: `watch_loops.py PORT X Y Z`. Threads move units between counters; none may be lost or doubled."""

import functools
import sys

import redis
import threads

port, (x, y, z) = int(sys.argv[1]), sys.argv[2:5]
ROUNDS, THREADS = 50, 2


def count(protocol):
    """Increments X and Y together, ROUNDS times, by reading them and writing what they are to be."""
    r = redis.Redis(host="127.0.0.1", port=port, protocol=protocol)
    for _ in range(ROUNDS):
        def move(pipe):
            values = [int(pipe.get(key) or 0) for key in (x, y)]
            pipe.multi()
            pipe.set(x, values[0] + 1).set(y, values[1] + 1).incr(z)

        r.transaction(move, x, y)
    r.close()


threads.run([functools.partial(count, 2 + number % 2) for number in range(THREADS)])

r = redis.Redis(host="127.0.0.1", port=port)
total = str(ROUNDS * THREADS).encode()
assert r.mget(x, y, z) == [total] * 3, r.mget(x, y, z)
