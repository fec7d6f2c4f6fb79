"""Drives RQ's workers through two proxies: `drive.py ACT URL URL WORKER...`. The acts:

    enqueue  jobs of every kind
    check    that the workers have run each exactly once and with which result; then stops them

    idle     waits until every worker waits for a job
    hold     gives each a job that runs until it is told to end, and that another job depends on
    release  ends those jobs one after the other, checks them, and stops the workers

No two dependencies of one job can end at the same moment: RQ 3.0 may then forget the job, on any server.
"""

import json
import sys
import time

import redis
import tasks
from rq import Queue, Retry, Worker
from rq.command import PUBSUB_CHANNEL_TEMPLATE, send_shutdown_command
from rq.job import Dependency, Job, JobStatus

PATIENCE = 60


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not within {PATIENCE} s: {what}")
        time.sleep(0.05)


def queues(connection):
    return [Queue(name, connection=connection) for name in ("high", "default", "low")]


def enqueue(connections, _):
    results = {}
    for number in range(8):
        high, default, low = queues(connections[number % 2])
        first = high.enqueue(tasks.square, number)
        second = low.enqueue(tasks.square, number + 1, depends_on=first)
        sums = default.enqueue(tasks.total, depends_on=[first, second])
        end = low.enqueue(tasks.total, depends_on=sums, on_success=tasks.note)
        value = number**2 + (number + 1) ** 2
        results |= {first.id: number**2, second.id: (number + 1) ** 2, sums.id: value, end.id: value}
    for job in default.enqueue_many([Queue.prepare_data(tasks.square, (number,)) for number in range(5)]):
        results[job.id] = job.args[0] ** 2
    failed = default.enqueue(tasks.fail, "on purpose")
    anyway = low.enqueue(tasks.total, depends_on=Dependency(jobs=[failed], allow_failure=True))
    others = {
        "retried": high.enqueue(tasks.fail_once, retry=Retry(max=2)).id,
        "failed": failed.id,
        "never": high.enqueue(tasks.square, 1, depends_on=failed).id,
    }
    connections[0].set("expected", json.dumps([{**results, anyway.id: 0}, others]))


def check(connections, workers):
    results, others = json.loads(connections[1].get("expected"))
    retried, failed, never = (Job.fetch(others[name], connection=connections[0]) for name in ("retried", "failed", "never"))
    # Waits on a stream, to which the worker adds the result.
    for number, (job_id, result) in enumerate(results.items()):
        job = Job.fetch(job_id, connection=connections[number % 2])
        latest = job.latest_result(timeout=PATIENCE)
        assert latest and latest.type == latest.Type.SUCCESSFUL, (job.func_name, job.get_status(), latest and latest.exc_string)
        assert latest.return_value == result, (job.func_name, latest.return_value, result)
    until("the retried job is done", lambda: retried.get_status() == JobStatus.FINISHED)
    until("the failing job has failed", lambda: failed.get_status() == JobStatus.FAILED)
    until("no job is left", lambda: not any(queue.count or queue.started_job_registry.count for queue in queues(connections[0])))

    other = connections[1]
    runs = {name.decode(): int(count) for name, count in other.hgetall("runs").items()}
    assert runs == {**dict.fromkeys(results, 1), retried.id: 2, failed.id: 1}, runs
    assert retried.return_value(refresh=True) == "the second time"
    assert "on purpose" in failed.latest_result().exc_string
    assert never.get_status() == JobStatus.DEFERRED
    assert other.llen("notes") == 8
    assert queues(other)[1].failed_job_registry.get_job_ids() == [failed.id]
    finished = sum(len(queue.finished_job_registry.get_job_ids()) for queue in queues(other))
    assert finished == len(results) + 1, finished

    stop(connections, workers)


def idle(connections, workers):
    def waiting():
        clients = [client for connection in connections for client in connection.client_list()]
        return sum(client["cmd"] in ("blpop", "blmove") for client in clients)

    until("every worker waits for a job", lambda: waiting() == len(workers))


def hold(connections, _):
    # Two workers alone take what is urgent; when they are busy, the others get the rest.
    for name in ("high", "default"):
        held = [Queue(name, connection=connection).enqueue(tasks.hold, number) for number, connection in enumerate(connections)]
        for number, job in enumerate(held):
            after = Queue("low", connection=connections[number]).enqueue(tasks.total, depends_on=job)
            connections[number].hset("after", job.id, after.id)
        until(f"two jobs of the queue {name} run", lambda: all((tasks.FOLDER / job.id).exists() for job in held))


def release(connections, workers):
    pairs = [[Job.fetch(name.decode(), connection=connections[0]) for name in pair] for pair in connections[1].hgetall("after").items()]
    for held, after in pairs:
        (tasks.FOLDER / f"{held.id}.end").touch()
        # Two that end at once might leave one of those that depend on them to RQ's maintenance, which comes every ten minutes.
        until("what waited for it is queued", lambda: after.get_status() not in (JobStatus.DEFERRED, JobStatus.READY_TO_ENQUEUE))
    for held, after in pairs:
        latest = after.latest_result(timeout=PATIENCE)
        assert latest and latest.return_value == held.return_value() == held.args[0], (after.get_status(), latest and latest.exc_string)
    runs = {name.decode(): int(count) for name, count in connections[0].hgetall("runs").items()}
    assert runs == {job.id: 1 for pair in pairs for job in pair}, runs
    until("no job is left", lambda: not any(queue.count or queue.started_job_registry.count for queue in queues(connections[0])))
    stop(connections, workers)


def stop(connections, workers):
    for number, worker in enumerate(workers):
        # One that lost its connection needs a moment to listen again.
        channel = PUBSUB_CHANNEL_TEMPLATE % worker
        until(f"{worker} listens", lambda: connections[number % 2].pubsub_numsub(channel)[0][1])
        send_shutdown_command(connections[number % 2], worker)
    until("the workers have gone", lambda: not Worker.all(connection=connections[1]))


def main(act, *args):
    # Longer than anything that is waited for.
    connections = [redis.Redis.from_url(url, socket_timeout=2 * PATIENCE) for url in args[:2]]
    {act.__name__: act for act in (enqueue, check, idle, hold, release)}[act](connections, args[2:])


main(*sys.argv[1:])
