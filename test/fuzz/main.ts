/*
 * npm run fuzz -- [--seed N] [--inputs N] [--property-seed N]
 *
 * Throws mutated frames, conversations and files at the controller's code, and a fifth as many frames at a worker's. Each must end in
 * time, with a correct result or a named refusal, and leak no memory. Then runs the property tests of both languages on cases that
 * `npm test` does not draw. Writes fuzz.json; exits with 1 if something failed.
 */
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Attack } from "./campaign.ts";
import { runProperties } from "./properties.ts";
import type { Report } from "./tally.ts";
import { encodeCase, workerCases } from "./worker-cases.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    inputs: { type: "string", default: "1000000" },
    "property-seed": { type: "string", default: `${randomInt(2 ** 31)}` },
    out: { type: "string", default: "fuzz.json" },
  },
});
const [seed, inputs, propertySeed] = [Number(values.seed), Number(values.inputs), Number(values["property-seed"])];
const isSeed = (value: number) => Number.isInteger(value) && value >= 0;
if (!isSeed(seed) || !isSeed(propertySeed) || !Number.isInteger(inputs) || inputs < 1) {
  process.stderr.write("fuzz: --seed and --property-seed are whole numbers, --inputs one of at least 1\n");
  process.exit(2);
}

/** A process that is silent for longer hangs in an input. */
const SILENCE_MS = 60_000;
/** Bytes by which memory may grow over the last nine tenths of the inputs: caches, fragmentation. */
const MOST_GROWTH = 32 * 1024 ** 2;
/** Bytes that either process may use at any time: no frame justifies more than a few hundred MiB. */
const MOST_AT_ONCE = 1024 ** 3;
/** One in this many of a worker's inputs is a case from Hypothesis. */
const HYPOTHESIS = 50;

const python = path.resolve(".venv/bin/python");

const started = Date.now();
const done = { controller: 0, worker: 0 };
const aims = { controller: inputs, worker: Math.ceil(inputs / 5) };
const say = (text: string) => process.stdout.write(`${((Date.now() - started) / 1000).toFixed(0).padStart(5)} s  ${text}\n`);

interface Outcome {
  readonly found?: Attack;
  /** Why there is no result. */
  readonly ended?: string;
}

/** Runs one of the two processes, and returns its last line. */
async function attack(side: keyof typeof done, command: readonly string[], feed?: (into: Writable) => Promise<void>): Promise<Outcome> {
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
  const lines = createInterface({ input: child.stdout }).on("line", (line) => {
    clearTimeout(watch);
    watch = setTimeout(hang, SILENCE_MS);
    last = line;
    const { inputs } = JSON.parse(line) as { readonly inputs?: number };
    if (inputs !== undefined) done[side] = inputs;
  });
  const told = once(lines, "close");
  const closed = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  // The exit says more, if the process has ended.
  await Promise.race([feed?.(child.stdin).catch(() => {}), closed]);
  child.stdin.on("error", () => {});
  child.stdin.end();
  const [[code, signal]] = await Promise.all([closed, told]);
  clearTimeout(watch);
  if (code === 0 && last.startsWith('{"layers"')) return { found: JSON.parse(last) as Attack };
  return { ended: `${isSilent ? "hung" : `ended with ${code ?? signal}`} after ${done[side]} inputs\n${said}` };
}

async function feedWorker(into: Writable): Promise<void> {
  let count = 0;
  for (const messages of workerCases(seed)) {
    if (count >= aims.worker) return;
    count += messages.length;
    if (!into.write(encodeCase(messages))) await once(into, "drain");
  }
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
  attack("controller", controllerCommand),
  attack("worker", [python, "test/fuzz/fuzz_worker.py", ...workerOptions], feedWorker),
]);
clearInterval(progress);

const mebibytes = (bytes: number | undefined) => (bytes === undefined ? undefined : Math.round(bytes / 1024 ** 2));

function summarise({ found, ended }: Outcome) {
  const reports = Object.values(found?.layers ?? {});
  const total = (count: (report: Report) => number) => reports.reduce((sum, report) => sum + count(report), 0);
  const { afterTenth, atEnd, mostRss } = found?.memory ?? {};
  const growth = afterTenth && atEnd && (atEnd.heap ?? atEnd.rss) - (afterTenth.heap ?? afterTenth.rss);
  const [crashes, hangs] = [total((report) => report.crashes.length), total((report) => report.hangs.length)];
  const inputs = total((report) => report.inputs);
  return {
    hasHeld: crashes + hangs === 0 && (growth ?? Infinity) <= MOST_GROWTH && (mostRss ?? Infinity) <= MOST_AT_ONCE,
    inputs,
    sharePastFirstCheck: Number((total((report) => report.pastFirstCheck) / inputs).toFixed(3)),
    accepted: total((report) => report.accepted),
    refused: total((report) => Object.values(report.refusals).reduce((sum, count) => sum + count, 0)),
    crashes,
    hangs,
    ended,
    memoryMiB: {
      growth: mebibytes(growth),
      afterTenth: { heap: mebibytes(afterTenth?.heap), rss: mebibytes(afterTenth?.rss) },
      atEnd: { heap: mebibytes(atEnd?.heap), rss: mebibytes(atEnd?.rss) },
      mostRss: mebibytes(mostRss),
    },
    layers: found?.layers,
  };
}

const sides = { controller: summarise(controller), worker: summarise(worker) };
say(`property tests, drawn from seed ${propertySeed}; to repeat them: npm run fuzz -- --property-seed ${propertySeed}`);
const properties = { seed: propertySeed, hasHeld: runProperties(propertySeed, python) };
const hasHeld = sides.controller.hasHeld && sides.worker.hasHeld && properties.hasHeld;
const [date, seconds] = [new Date().toISOString().slice(0, 10), Math.round((Date.now() - started) / 1000)];
writeFileSync(values.out, `${JSON.stringify({ date, seed, seconds, hasHeld, ...sides, properties }, null, 2)}\n`);
for (const [side, { inputs, crashes, hangs, ended, memoryMiB }] of Object.entries(sides)) {
  say(
    `${side}: ${inputs} inputs, ${crashes} crashes, ${hangs} hangs, memory grew by ${memoryMiB.growth} MiB${ended === undefined ? "" : `; ${ended}`}`,
  );
}
if (!properties.hasHeld) say(`property tests: some FAILED with seed ${propertySeed}`);
say(`${hasHeld ? "all held" : "NOT all held"}; see ${values.out}`);
process.exitCode = hasHeld ? 0 : 1;
