/*
 * npm run fuzz -- [--seed N] [--inputs N]
 *
 * Throws mutated frames, conversations and files at the controller's code, and a fifth as many frames at a worker's. Each must end in
 * time, in an honest result or in a refusal that has a name, and leave no memory taken. Writes fuzz.json; exits with 1 where one did not.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Attack } from "./campaign.ts";
import type { Report } from "./tally.ts";
import { encodeCase, workerCases } from "./worker-cases.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    inputs: { type: "string", default: "1000000" },
    out: { type: "string", default: "fuzz.json" },
  },
});
const [seed, inputs] = [Number(values.seed), Number(values.inputs)];
if (!Number.isInteger(seed) || !Number.isInteger(inputs) || seed < 0 || inputs < 1) {
  process.stderr.write("fuzz: --seed is a whole number, --inputs one of at least 1\n");
  process.exit(2);
}

/** A process that says nothing for longer hangs in an input. */
const SILENCE_MS = 60_000;
/** Bytes that the last nine tenths of the inputs may leave taken: caches that fill up, fragments. */
const MOST_GROWTH = 32 * 1024 ** 2;
/** Of a worker's inputs, one in so many is a case that Hypothesis makes. */
const HYPOTHESIS = 50;

const started = Date.now();
const done = { controller: 0, worker: 0 };
const aims = { controller: inputs, worker: Math.ceil(inputs / 5) };
const say = (text: string) => process.stdout.write(`${((Date.now() - started) / 1000).toFixed(0).padStart(5)} s  ${text}\n`);

interface Outcome<T> {
  readonly found?: T;
  /** Why there is nothing. */
  readonly ended?: string;
}

/** Runs one of the two, and gives its last line. */
async function attack<T>(
  side: keyof typeof done,
  command: readonly string[],
  feed?: (into: Writable) => Promise<void>,
): Promise<Outcome<T>> {
  const [file = "", ...args] = command;
  const env = { ...process.env, PYTHONPATH: path.resolve("workers") };
  const child = spawn(file, args, { env, stdio: ["pipe", "pipe", "pipe"] });
  let [said, last, isSilent] = ["", "", false];
  const hang = () => {
    isSilent = true;
    child.kill("SIGKILL");
  };
  let watch = setTimeout(hang, SILENCE_MS);
  child.stderr.on("data", (chunk: Buffer) => (said = `${said}${chunk.toString()}`.slice(-4000)));
  createInterface({ input: child.stdout }).on("line", (line) => {
    clearTimeout(watch);
    watch = setTimeout(hang, SILENCE_MS);
    last = line;
    const told = JSON.parse(line) as { readonly inputs?: number };
    if (told.inputs !== undefined) done[side] = told.inputs;
  });
  const closed = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  // Where it has ended, that tells more.
  await Promise.race([feed?.(child.stdin).catch(() => {}), closed]);
  child.stdin.on("error", () => {});
  child.stdin.end();
  const [code, signal] = await closed;
  clearTimeout(watch);
  if (code === 0) return { found: JSON.parse(last) as T };
  return { ended: `${isSilent ? "hung" : `ended with ${code ?? signal}`} after ${done[side]} inputs\n${said}` };
}

async function feedWorker(into: Writable): Promise<void> {
  let count = 0;
  for (const frames of workerCases(seed)) {
    if (count >= aims.worker) return;
    count += frames.length;
    if (!into.write(encodeCase(frames))) await once(into, "drain");
  }
}

interface WorkerAttack {
  readonly report: Report;
  readonly memory: { readonly afterTenth: number; readonly atEnd: number; readonly most: number };
}

const progress = setInterval(
  () => say(`controller ${done.controller} of ${aims.controller}, worker ${done.worker} of ${aims.worker}`),
  5000,
);
const controllerCommand = [
  process.execPath,
  "--expose-gc",
  fileURLToPath(new URL("controller.js", import.meta.url)),
  `${seed}`,
  `${inputs}`,
];
const workerOptions = ["--seed", `${seed}`, "--inputs", `${aims.worker}`, "--hypothesis", `${Math.ceil(aims.worker / HYPOTHESIS)}`];
const [controller, worker] = await Promise.all([
  attack<Attack>("controller", controllerCommand),
  attack<WorkerAttack>("worker", [path.resolve(".venv/bin/python"), "test/fuzz/fuzz_worker.py", ...workerOptions], feedWorker),
]);
clearInterval(progress);

const total = (reports: readonly Report[], key: "inputs" | "pastFirstCheck" | "accepted") =>
  reports.reduce((sum, report) => sum + report[key], 0);
const mebibytes = (bytes: number) => Math.round(bytes / 1024 ** 2);
function summarise(reports: readonly Report[], ended: string | undefined, growth: number | undefined) {
  const all = total(reports, "inputs");
  return {
    inputs: all,
    sharePastFirstCheck: Number((total(reports, "pastFirstCheck") / all).toFixed(3)),
    accepted: total(reports, "accepted"),
    refused: reports.flatMap(({ refusals }) => Object.values(refusals)).reduce((sum, count) => sum + count, 0),
    kindsOfRefusal: reports.flatMap(({ refusals }) => Object.keys(refusals)).length,
    crashes: reports.flatMap(({ crashes }) => crashes).length,
    hangs: reports.flatMap(({ hangs }) => hangs).length,
    ...(ended === undefined ? {} : { ended }),
    growthMiB: growth === undefined ? null : mebibytes(growth),
  };
}

const layers = Object.values(controller.found?.layers ?? {});
const [heap, rss] = (["heap", "rss"] as const).map((kind) => {
  const memory = controller.found?.memory;
  return memory && { afterTenth: mebibytes(memory.afterTenth[kind]), atEnd: mebibytes(memory.atEnd[kind]) };
});
const memory = worker.found?.memory;
const growths = {
  controller: controller.found && controller.found.memory.atEnd.heap - controller.found.memory.afterTenth.heap,
  worker: memory && memory.atEnd - memory.afterTenth,
};
const found = {
  controller: summarise(layers, controller.ended, growths.controller),
  worker: summarise(worker.found ? [worker.found.report] : [], worker.ended, growths.worker),
};
const hasHeld = Object.entries(found).every(([side, { crashes, hangs, ended }]) => {
  const growth = growths[side as keyof typeof growths];
  return crashes === 0 && hangs === 0 && ended === undefined && growth !== undefined && growth <= MOST_GROWTH;
});
const result = {
  date: new Date().toISOString().slice(0, 10),
  seed,
  seconds: Math.round((Date.now() - started) / 1000),
  hasHeld,
  controller: {
    ...found.controller,
    memoryMiB: { heap, rss, mostRss: controller.found && mebibytes(controller.found.memory.mostRss) },
    layers: controller.found?.layers,
  },
  worker: {
    ...worker.found?.report,
    ...found.worker,
    memoryMiB: memory && {
      rss: { afterTenth: mebibytes(memory.afterTenth), atEnd: mebibytes(memory.atEnd) },
      mostRss: mebibytes(memory.most),
    },
  },
};
writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
for (const [side, { inputs, crashes, hangs, ended, growthMiB }] of Object.entries(found)) {
  say(`${side}: ${inputs} inputs, ${crashes} crashes, ${hangs} hangs, ${growthMiB} MiB more${ended === undefined ? "" : `; ${ended}`}`);
}
say(`${hasHeld ? "all held" : "NOT all held"}; see ${values.out}`);
process.exitCode = hasHeld ? 0 : 1;
