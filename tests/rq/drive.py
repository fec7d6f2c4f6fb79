"""Enqueues jobs through one proxy while workers run behind it and another, and checks that each ran exactly once and with which result.

Arguments: the URLs of two proxies, then the names of the workers, which are told to stop at the end.
"""

import sys
import time

import redis
import tasks
from rq import Queue, Retry, Worker
from rq.command import send_shutdown_command
from rq.job import Dependency, JobStatus

PATIENCE = 60


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not within {PATIENCE} s: {what}")
        time.sleep(0.05)


def main(urls, workers):
    # Longer than anything that is waited for below.
    connections = [redis.Redis.from_url(url, socket_timeout=2 * PATIENCE) for url in urls]
    high, default, low = (Queue(name, connection=connections[0]) for name in ("high", "default", "low"))
    until("all workers are there", lambda: {w.name for w in Worker.all(connection=connections[1])} >= set(workers))

    results = {}
    for number in range(8):
        first = high.enqueue(tasks.square, number)
        # One after the other: RQ forgets a job whose last two dependencies end at the same moment on two workers, on any server.
        squares = [first, low.enqueue(tasks.square, number + 1, depends_on=first)]
        sums = default.enqueue(tasks.total, depends_on=squares)
        end = low.enqueue(tasks.total, depends_on=sums, on_success=tasks.note)
        value = number**2 + (number + 1) ** 2
        for job, result in zip([*squares, sums, end], [number**2, (number + 1) ** 2, value, value]):
            results[job.id] = job, result
    for job in default.enqueue_many([Queue.prepare_data(tasks.square, (number,)) for number in range(5)]):
        results[job.id] = job, job.args[0] ** 2
    retried = high.enqueue(tasks.fail_once, retry=Retry(max=2))
    failed = default.enqueue(tasks.fail, "on purpose")
    never = high.enqueue(tasks.square, 1, depends_on=failed)
    anyway = low.enqueue(tasks.total, depends_on=Dependency(jobs=[failed], allow_failure=True))
    results[anyway.id] = anyway, 0

    # Waits on a stream in which the worker writes the result.
    for job, result in results.values():
        latest = job.latest_result(timeout=PATIENCE)
        assert latest and latest.type == latest.Type.SUCCESSFUL, (job.func_name, latest and latest.exc_string)
        assert latest.return_value == result, (job.func_name, latest.return_value, result)
    until("the retried job is done", lambda: retried.get_status() == JobStatus.FINISHED)
    until("the failing job has failed", lambda: failed.get_status() == JobStatus.FAILED)
    until("no job is left", lambda: not any(queue.count or queue.started_job_registry.count for queue in (high, default, low)))

    other = connections[1]
    runs = {name.decode(): int(count) for name, count in other.hgetall("runs").items()}
    assert runs == {**dict.fromkeys(results, 1), retried.id: 2, failed.id: 1}, runs
    assert retried.return_value(refresh=True) == "the second time"
    assert "on purpose" in failed.latest_result().exc_string
    assert never.get_status() == JobStatus.DEFERRED and never.id not in runs
    assert other.llen("notes") == 8
    assert [job_id for job_id in default.failed_job_registry.get_job_ids()] == [failed.id]
    finished = sum(len(queue.finished_job_registry.get_job_ids()) for queue in (high, default, low))
    assert finished == len(results) + 1, finished

    for number, worker in enumerate(workers):
        send_shutdown_command(connections[number % 2], worker)
    until("the workers have gone", lambda: not Worker.all(connection=other))


main(sys.argv[1:3], sys.argv[3:])
