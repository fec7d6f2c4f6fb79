"""The jobs of the RQ test. Each counts its runs through the worker's own connection."""

import os
import time
from pathlib import Path

from rq import get_current_job

FOLDER = Path(os.environ["FOLDER"])


def _begin():
    job = get_current_job()
    job.connection.hincrby("runs", job.id, 1)
    return job


def square(number):
    _begin()
    return number * number


def total():
    """The sum of the results of the jobs that this one depends on."""
    return sum(job.return_value() or 0 for job in _begin().fetch_dependencies())


def fail(text):
    _begin()
    raise ValueError(text)


def fail_once():
    job = _begin()
    if int(job.connection.hget("runs", job.id)) == 1:
        raise RuntimeError("the first time")
    return "the second time"


def hold(number):
    """From when it has noted that it runs until it is told to end, neither it nor its worker has to do with Redis."""
    job = _begin()
    (FOLDER / job.id).touch()
    while not (FOLDER / f"{job.id}.end").exists():
        time.sleep(0.05)
    return number


def note(job, connection, result, *_):
    """A success callback."""
    connection.rpush("notes", job.id)
