import process from "node:process";
import { type Job, Queue, QueueEvents } from "bullmq";
import { CANCEL, connect, QUEUE, type RunJob, type RunProgress } from "./queue.ts";

const [connection, listening] = [connect(), connect()];
const queue = new Queue<RunJob>(QUEUE, { connection });
const events = new QueueEvents(QUEUE, { connection: listening });

/** Queues a run and prints its progress until it ends. */
async function submit(rounds: number): Promise<void> {
  await events.waitUntilReady();
  const job = await queue.add("run", { rounds }, { jobId: `run-${Date.now().toString(36)}` });
  console.log(job.id);
  events.on("progress", ({ jobId, data }) => {
    const { round, loss } = data as unknown as RunProgress;
    if (jobId === job.id) console.log(`round ${round}: loss ${loss}`);
  });
  const removed = new Promise<never>((_, reject) => {
    events.on("removed", ({ jobId }) => jobId === job.id && reject(new Error("cancelled before it began")));
  });
  console.log((await Promise.race([job.waitUntilFinished(events), removed])).directory);
}

/** Takes a run out of the queue, or has its worker stop it. */
async function cancel(id: string): Promise<void> {
  const job: Job<RunJob> | undefined = await queue.getJob(id);
  if (await job?.isActive()) await connection.publish(CANCEL, id);
  else await job?.remove();
}

const [command, argument = ""] = process.argv.slice(2);
try {
  if (command === "submit") await submit(Number(argument));
  else if (command === "cancel") await cancel(argument);
  else throw new Error("usage: client submit ROUNDS | client cancel ID");
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
} finally {
  await Promise.all([queue.close(), events.close()]);
  await Promise.all([connection.quit(), listening.quit()]);
}
