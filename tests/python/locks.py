"""redis-py's Lock, which is made of scripts: `locks.py PORT X Y Z`. Two threads count under a lock on another shard."""

import sys

import redis
import threads

port, (x, y, z) = int(sys.argv[1]), sys.argv[2:5]
ROUNDS = 30


def count():
    r = redis.Redis(host="127.0.0.1", port=port)
    for _ in range(ROUNDS):
        with r.lock(x, timeout=30, sleep=0.01):
            # Not atomic, and lost without the lock.
            r.set(y, int(r.get(y) or 0) + 1)
    r.close()


threads.run([count] * 2)

r = redis.Redis(host="127.0.0.1", port=port)
assert int(r.get(y)) == 2 * ROUNDS, r.get(y)
assert r.exists(x) == 0

held = r.lock(z, timeout=30)
assert held.acquire() and held.owned() and held.extend(10) and held.reacquire()
assert not r.lock(z, timeout=30).acquire(blocking=False)
r.set(z, "stolen")
try:
    held.release()
    raise AssertionError("a lock that is lost cannot be released")
except redis.exceptions.LockNotOwnedError:
    pass
