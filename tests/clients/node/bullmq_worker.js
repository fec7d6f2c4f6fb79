// BullMQ's workers of all queues behind one proxy: `bullmq_worker.js PORT FOLDER`. Each job notes in FOLDER that it runs: that is not
// lost with any connection. Ends by SIGTERM, when its jobs are done.

import { appendFileSync } from "node:fs";
import { Worker } from "bullmq";
import { CONNECTION, QUEUES } from "./bullmq_queues.js";

const [port, folder] = process.argv.slice(2);

async function run(job) {
  appendFileSync(`${folder}/runs`, `${job.queueQualifiedName} ${job.id}\n`);
  if (job.data.fail > job.attemptsMade) throw new Error("on purpose");
  await new Promise((resolve) => setTimeout(resolve, job.data.ms ?? 0));
  const parts = Object.values(await job.getChildrenValues());
  return parts.reduce((sum, part) => sum + part, job.data.number);
}

const workers = QUEUES.map(({ name, prefix }) => {
  // A job whose worker is not heard of for as long as a lock lasts is given to another, however often that happens.
  const patience = { lockDuration: 5_000, stalledInterval: 1_000, maxStalledCount: 100 };
  const worker = new Worker(name, run, { connection: { ...CONNECTION, port }, prefix, concurrency: 4, ...patience });
  // The proxy is dead for a while.
  worker.on("error", (error) => console.log(error.message));
  return worker;
});

process.on("SIGTERM", async () => {
  await Promise.all(workers.map((worker) => worker.close()));
  process.exit(0);
});
