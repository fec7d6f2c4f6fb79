"""Sends jobs to dramatiq's queues, works on them, or waits until they are done: `drive.py send|work|check`."""

import signal
import sys
import threading

import dramatiq
from jobs import ACTORS, FOLDER, JOBS, QUEUES, broker

PATIENCE_MS = 120_000


def send():
    for queue, actor in ACTORS.items():
        for number in range(JOBS):
            # Every other one waits for a moment, in a queue of its own.
            actor.send_with_options(args=(number,), delay=50 if number % 2 else None)


def work():
    worker = dramatiq.Worker(broker, worker_threads=4, worker_timeout=50)
    worker.start()
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    over.wait()
    worker.stop()


def check():
    for queue in QUEUES:
        broker.join(queue, timeout=PATIENCE_MS)
    runs = (FOLDER / "runs").read_text().splitlines()
    # The first of each queue fails once.
    wanted = sorted(f"{queue} {number}" for queue in QUEUES for number in [0, *range(JOBS)])
    assert sorted(runs) == wanted, f"{sorted(runs)}"


{"send": send, "work": work, "check": check}[sys.argv[1]]()
