"""The jobs of the Celery test. Each writes down in the folder of the test that it runs: that is not lost with any connection."""

import os
import time
from pathlib import Path

from celery import Celery

FOLDER = Path(os.environ["FOLDER"])
URL = os.environ["URL"]
PATIENCE = 60

app = Celery("jobs", broker=URL, backend=URL)
app.conf.update(
    # Each step of priority is a list of its own: a worker of three queues waits by BRPOP for twelve keys.
    broker_transport_options={"priority_steps": [0, 3, 6, 9], "queue_order_strategy": "priority"},
    broker_connection_retry_on_startup=True,
    # A worker takes a job when it can run it.
    # A result is stored when the proxy is back, if it is dead at that time.
    result_backend_always_retry=True,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
)


def note(file, *words):
    with open(FOLDER / file, "a") as lines:
        lines.write(" ".join(words) + "\n")


def noted(file):
    path = FOLDER / file
    return path.read_text().splitlines() if path.exists() else []


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {PATIENCE} s: {what}")
        time.sleep(0.02)


@app.task(bind=True)
def square(self, number):
    note("runs", self.request.id)
    return number * number


@app.task(bind=True)
def total(self, numbers):
    note("runs", self.request.id)
    return sum(numbers)


@app.task(bind=True, max_retries=2)
def fail_once(self):
    note("runs", self.request.id)
    if self.request.retries == 0:
        raise self.retry(countdown=0.1)
    return "the second time"


@app.task(bind=True)
def held(self, number):
    """Runs until the gate is opened."""
    note("runs", self.request.id)
    note("held", self.request.hostname)
    until("the gate is opened", lambda: noted("gate"))
    return number
