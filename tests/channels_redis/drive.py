"""channels_redis's layer, as two processes of an application have it, each behind a weft of its own: `drive.py PORT PORT`."""

import asyncio
import sys

import redis.asyncio
from channels.exceptions import ChannelFull
from channels_redis.core import RedisChannelLayer

PORTS = [int(port) for port in sys.argv[1:3]]


def layers(**options):
    return [RedisChannelLayer(hosts=[("127.0.0.1", port)], **options) for port in PORTS]


async def keys():
    """The keys that there are, with their number of members."""
    async with redis.asyncio.Redis(port=PORTS[1], decode_responses=True) as r:
        return {key: await r.zcard(key) async for key in r.scan_iter()}


async def received(layer, channel):
    """A message, when it is confirmed: until then whoever receives from the same channel gets it too, from any server."""
    message = await layer.receive(channel)
    await layer.wait_received()
    return message


async def must_close(*ends):
    """All messages are confirmed, and nobody got one that nobody asked for."""
    for end in ends:
        await end.close_pools()
        assert not end.receive_buffer, dict(end.receive_buffer)


async def channels():
    """Messages cross from one process to the other, each to one receiver."""
    one, other = layers()
    for number in range(10):
        await one.send("tasks", {"number": number})
    for number in range(10):
        assert await received((one, other)[number % 2], "tasks") == {"number": number}
    for receiver, sender in ((one, other), (other, one)):
        waiting = asyncio.ensure_future(received(receiver, "tasks"))
        await sender.send("tasks", {"by": "the other"})
        assert await waiting == {"by": "the other"}

    reply = await one.new_channel()
    await other.send(reply, {"answer": 42})
    assert await one.receive(reply) == {"answer": 42}
    await must_close(one, other)
    assert not await keys(), await keys()


async def groups():
    """A message to a group comes to each of its channels once, wherever those are received."""
    one, other = layers()
    members = [(layer, await layer.new_channel()) for layer in (one, other) for _ in range(4)]
    members += [(one, f"worker{number}") for number in range(4)]
    for number, (_, channel) in enumerate(members):
        await (one, other)[number % 2].group_add("room", channel)
    left = await one.new_channel()
    await one.group_add("room", left)
    await other.group_discard("room", left)
    for number, layer in enumerate((one, other, one)):
        await layer.group_send("room", {"number": number})
    for number in range(3):
        received = await asyncio.gather(*(layer.receive(channel) for layer, channel in members))
        # A message to channels with a key each carries their names.
        assert [message["number"] for message in received] == [number] * len(members), received
    await must_close(one, other)
    assert await keys() == {"asgi:group:room": len(members)}, await keys()


async def capacity():
    """A channel that is full takes no more, from one sender or from a group."""
    one, other = layers(capacity=2)
    for _ in range(2):
        await one.send("full", {"by": "send"})
    try:
        await other.send("full", {"by": "send"})
        sys.exit("a full channel took a message")
    except ChannelFull:
        pass
    for channel in ("full", "empty"):
        await other.group_add("some", channel)
    await one.group_send("some", {"by": "group"})
    assert await keys() == {"asgi:group:some": 2, "asgi:group:room": 12, "asgifull": 2, "asgiempty": 1}, await keys()
    assert [(await other.receive("full"))["by"] for _ in range(2)] == ["send", "send"]
    assert (await other.receive("empty"))["by"] == "group"
    await must_close(one, other)


async def expiry():
    """A message that nobody has asked for in time is gone."""
    one, other = layers(expiry=1)
    await one.send("late", {})
    await one.group_add("late", "later")
    await one.group_send("late", {})
    while {"asgilate", "asgilater"} & set(await keys()):
        pass
    await other.send("late", {"in": "time"})
    assert await one.receive("late") == {"in": "time"}
    await must_close(one, other)


async def deaths():
    """A message whose receiver died is received by the next, first."""
    one, other = layers()
    for number in range(3):
        await one.send("tasks", {"number": number})
    # What receive() calls, which then takes the message out of the backup.
    assert await one._brpop_with_clean(0, "asgitasks", timeout=1)
    assert [(await other.receive("tasks"))["number"] for _ in range(3)] == [0, 1, 2]
    await must_close(one, other)


async def flush():
    one, other = layers()
    await one.send("tasks", {})
    await other.flush()
    assert not await keys(), await keys()
    await must_close(one)


async def main():
    for act in (channels, groups, capacity, expiry, deaths, flush):
        await asyncio.wait_for(act(), 60)


asyncio.run(main())
