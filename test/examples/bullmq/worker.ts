import { existsSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { type Job, UnrecoverableError, WaitingError, Worker } from "bullmq";
import { buildRun, federate, InterruptedError, loadConfig } from "prelort";
import { tinyRun } from "prelort/testing";
import { CANCEL, connect, QUEUE, type RunJob, type RunProgress } from "./queue.ts";

const runsDir = process.env["RUNS_DIR"] ?? "runs";
// `--tiny` trains a tiny model inside this process, to try the worker without Python.
const isTiny = process.argv.includes("--tiny");
const options = isTiny ? tinyRun({ runsDir }) : buildRun(await loadConfig("node_modules/prelort/configs/quickstart.yaml"));
let isClosing = false;

async function train(job: Job<RunJob>, token?: string, signal?: AbortSignal): Promise<{ readonly directory: string }> {
  const name = job.id ?? "";
  // Another worker began it, and then was stopped or died.
  const resume = existsSync(path.join(runsDir, name, "run.json"));
  const run = federate({ ...options, rounds: job.data.rounds, name, runsDir, resume, signal });
  try {
    for await (const event of run) {
      if (event.type !== "round-end") continue;
      await job.updateProgress({ round: event.round, loss: event.metrics.byTier.at(-1)?.loss } satisfies RunProgress);
    }
    return { directory: (await run.result).directory };
  } catch (error) {
    await run.stop();
    if (!(error instanceof InterruptedError)) throw error;
    if (!isClosing) throw new UnrecoverableError("cancelled");
    await job.moveToWait(token);
    throw new WaitingError();
  }
}

const [connection, cancellations] = [connect(), connect()];
const worker = new Worker<RunJob>(QUEUE, train, { connection, concurrency: 2 });
worker.on("error", (error) => console.error(error.message));
worker.on("ready", () => console.log("ready"));
cancellations.on("message", (_, id) => worker.cancelJob(id));
await cancellations.subscribe(CANCEL);

// Its runs go back to the queue, and the next worker resumes them.
async function close(): Promise<void> {
  isClosing = true;
  worker.cancelAllJobs();
  await worker.close();
  await Promise.all([connection.quit(), cancellations.quit()]);
}
process.once("SIGTERM", () => void close());
