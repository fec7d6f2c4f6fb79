"""The jobs of the dramatiq test: each writes down in the folder of the test that it runs."""

import os
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker

FOLDER = Path(os.environ["FOLDER"])
QUEUES = ["reports", "images", "invoices"]
JOBS = 20

broker = RedisBroker(url=os.environ["URL"])
dramatiq.set_broker(broker)


def job(queue):
    @dramatiq.actor(actor_name=f"job_{queue}", queue_name=queue, min_backoff=10, max_backoff=50)
    def run(number):
        with open(FOLDER / "runs", "a") as runs:
            runs.write(f"{queue} {number}\n")
        if number == 0 and (FOLDER / "runs").read_text().count(f"{queue} 0\n") == 1:
            raise RuntimeError("on purpose")

    return run


ACTORS = {queue: job(queue) for queue in QUEUES}
