"""redis-py's asyncio client and its pool of connections: `with_asyncio.py PORT X Y Z`."""

import asyncio
import sys

import redis
import redis.asyncio

port, (x, y, z) = int(sys.argv[1]), sys.argv[2:5]


async def increment(r, rounds):
    for _ in range(rounds):
        while True:
            async with r.pipeline(transaction=True) as pipe:
                try:
                    await pipe.watch(x, y)
                    value = int(await pipe.get(x) or 0)
                    pipe.multi()
                    pipe.set(x, value + 1).set(y, value + 1)
                    await pipe.execute()
                    break
                except redis.WatchError:
                    continue


async def main():
    for protocol in (2, 3):
        pool = redis.asyncio.BlockingConnectionPool(host="127.0.0.1", port=port, protocol=protocol, max_connections=4, timeout=30)
        r = redis.asyncio.Redis(connection_pool=pool)
        await r.delete(x, y, z)
        await asyncio.gather(*(increment(r, 10) for _ in range(4)))
        assert await r.mget(x, y) == [b"40", b"40"], await r.mget(x, y)
        # More commands at once than there are connections.
        assert sorted(await asyncio.gather(*(r.incr(z) for _ in range(100)))) == list(range(1, 101))
        await r.aclose()
        await pool.disconnect()


asyncio.run(main())
