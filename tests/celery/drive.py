"""Sends jobs to Celery's workers and checks what came of them: `drive.py ACT`.

In the environment are FOLDER, where jobs note that they run, and URL, the proxy of this act.
"""

import json
import sys
from collections import Counter

from celery import chain, chord, group
from jobs import FOLDER, PATIENCE, app, fail_once, held, note, noted, square, total, until

QUEUES = ["high", "default", "low"]
WORKERS, SLOTS = 2, 2


def remember(results):
    for result, value in results:
        note("expected", result.id, json.dumps(value))


def expect(results):
    """The results are these, and are remembered."""
    for result, value in results:
        # A result that is there already is taken as it is; the others are told of by a subscription.
        result.ready()
        assert result.get(timeout=PATIENCE) == value, (result, result.result, value)
    remember(results)


def ordered():
    """A queue for a worker that comes later: what is urgent is sent last."""
    for priority in (9, 6, 3, 0):
        for number in range(3):
            square.apply_async((number,), queue="ordered", priority=priority, task_id=f"urgent-{priority}-{number}")


def order():
    """The worker has come."""
    until("all of them have run", lambda: len(noted("runs")) == 12)
    expected = [f"urgent-{priority}-{number}" for priority in (0, 3, 6, 9) for number in range(3)]
    assert noted("runs") == expected, noted("runs")


def work():
    """Jobs of several queues, some of which wait for others."""
    def on(number):
        return {"queue": QUEUES[number % 3], "priority": (0, 3, 6, 9)[number % 4]}

    results = [(square.apply_async((number,), **on(number)), number**2) for number in range(24)]
    for number in range(4):
        squares = [square.s(part).set(**on(part)) for part in range(number, number + 4)]
        parts = sum(part**2 for part in range(number, number + 4))
        # The result of one is the argument of the next; many at once; one that runs when many are done.
        results.append((chain(square.s(number).set(queue="low"), square.s().set(queue="high"))(), number**4))
        results.append((chord(squares)(total.s().set(queue="high")), parts))
        results += zip(group(squares)().results, [part**2 for part in range(number, number + 4)])
    results.append((fail_once.apply_async(queue="default"), "the second time"))
    expect(results)
    again = results[-1][0].id
    runs = Counter(noted("runs"))
    assert runs.pop(again) == 2 and set(runs.values()) == {1}, runs


def hold():
    """Every worker is busy, and more is waiting."""
    remember([(held.apply_async((number,), queue="default"), number) for number in range(WORKERS * SLOTS)])
    until("every worker holds its jobs", lambda: Counter(Counter(noted("held")).values()) == {SLOTS: WORKERS})
    remember([(square.apply_async((number,), queue=QUEUES[number % 3]), number**2) for number in range(12)])


def release():
    """A proxy is dead. The worker behind the other one does all that waits, and each ends the jobs that it holds."""
    waiting = [line.split()[0] for line in noted("expected")[-12:]]
    note("gate", "open")
    until("the other worker does what waits", lambda: all(app.AsyncResult(job).ready() for job in waiting))


def end():
    """All is done, each once, and nothing is left. The workers take more through either proxy, and end."""
    for line in noted("expected"):
        job, value = line.split(" ", 1)
        assert app.AsyncResult(job).get(timeout=PATIENCE) == json.loads(value), job
    until("both workers answer", lambda: len(app.control.ping(timeout=1)) == WORKERS)
    expect([(square.apply_async((number,), queue=QUEUES[number % 3]), number**2) for number in range(6)])
    runs = Counter(noted("runs"))
    more = [count for count in runs.values() if count > 1]
    assert more == [2], f"one job was to be tried again: {runs}"
    assert all(line.split()[0] in runs for line in noted("expected") if "chord" not in line)
    with app.connection_for_read() as connection, connection.default_channel as channel:
        left = {queue: channel._size(queue) for queue in QUEUES}
        assert not any(left.values()), left
        assert channel.client.hlen("unacked") == 0
    app.control.shutdown()


ACTS = {act.__name__: act for act in (ordered, order, work, hold, release, end)}
ACTS[sys.argv[1]]()
