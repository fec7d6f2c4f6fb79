// Sends jobs to BullMQ's queues, or checks what came of them: `bullmq_drive.js send|check PORT FOLDER`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { FlowProducer, Job, Queue, QueueEvents } from "bullmq";
import { CONNECTION, QUEUES } from "./bullmq_queues.js";

const JOBS = 40;
const PATIENCE = 60_000;

const [act, port, folder] = process.argv.slice(2);
const connection = { ...CONNECTION, port };
const queues = QUEUES.map(({ name, prefix }) => new Queue(name, { connection, prefix }));

async function send() {
  const flows = QUEUES.map(({ prefix }) => new FlowProducer({ connection, prefix }));
  for (const [at, queue] of queues.entries()) {
    const data = (number) => ({ number, ms: 100 });
    await queue.addBulk(Array.from({ length: JOBS }, (_, number) => ({ name: "plain", data: data(number) })));
    for (let number = 0; number < 10; number++) {
      await queue.add("urgent", data(number), { priority: 1 + (number % 3) });
      await queue.add("later", data(number), { delay: 10 * number });
    }
    await queue.add("again", { number: 1, fail: 1 }, { attempts: 2, backoff: 10 });
    await queue.add("fails", { number: 1, fail: 9 }, { attempts: 2 });
    for (let number = 0; number < 4; number++) {
      const children = [1, 2].map((part) => ({ name: "part", queueName: queue.name, data: data(number + part) }));
      await flows[at].add({ name: "sum", queueName: queue.name, data: data(number), children });
    }
  }
  await Promise.all(flows.map((flow) => flow.close()));
}

const result = ({ name, data: { number } }) => (name === "sum" ? 3 * number + 3 : number);

async function check() {
  const sent = JOBS + 10 + 10 + 2 + 4 * 3;
  const runs = new Map();
  await Promise.all(queues.map(async (queue, at) => {
    // A worker's news comes by a stream that is waited for.
    const events = new QueueEvents(queue.name, { connection, prefix: QUEUES[at].prefix });
    const last = await queue.add("plain", { number: 7 });
    assert.equal(await last.waitUntilFinished(events, PATIENCE), 7);
    await events.close();
    const end = Date.now() + PATIENCE;
    const unfinished = ["wait", "active", "delayed", "prioritized", "waiting-children"];
    while ((await queue.getJobCountByTypes(...unfinished)) > 0) {
      assert.ok(Date.now() < end, `jobs are left: ${JSON.stringify(await queue.getJobCounts())}`);
    }
    assert.deepEqual(await queue.getJobCounts("completed", "failed"), { completed: sent, failed: 1 });
  }));

  for (const line of readFileSync(`${folder}/runs`, "utf8").trim().split("\n")) runs.set(line, (runs.get(line) ?? 0) + 1);
  let stalled = 0;
  for (const queue of queues) {
    for (const job of await queue.getJobs(["completed", "failed"])) {
      const name = `${job.queueQualifiedName} ${job.id}`;
      const meant = job.name === "again" || job.name === "fails" ? 2 : 1;
      // Once for each attempt; and once more only if BullMQ itself gave it up for stalled.
      const ran = runs.get(name) ?? 0;
      assert.ok(ran >= meant && ran <= meant + job.stalledCounter, `${name} ran ${ran} times, and stalled ${job.stalledCounter}`);
      assert.equal(await job.getState(), job.name === "fails" ? "failed" : "completed");
      if (job.name !== "fails") assert.equal(job.returnvalue, result(job), name);
      stalled += job.stalledCounter;
      runs.delete(name);
    }
  }
  assert.equal(runs.size, 0, "no job ran that is not there");
  console.log(`stalled: ${stalled}`);
}

await { send, check }[act]();
await Promise.all(queues.map((queue) => queue.close()));
process.exit(0);
