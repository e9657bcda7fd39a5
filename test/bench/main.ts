/*
 * npm run bench -- [--gpu] [--only NAME …] [--repeats N]
 *
 * Measures prelort and its peers side by side, prints each figure as a ratio within one repeat, writes bench.json. With --gpu
 * measures what needs a GPU instead, and writes bench-gpu.json.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { environmentPython, packageRoot } from "../../dist/installation.js";
import type { Experiment } from "./experiment.ts";
import { bytes } from "./experiments/bytes.ts";
import { echoLarge, echoSmall, manyClients, memory, millionClients, prepareMillion, wire } from "./experiments/echo.ts";
import { oncePerHost, partialSums, partialSumsOverLink } from "./experiments/partial-sums.ts";
import { fold } from "./experiments/fold.ts";
import { kindExperiments, SMOLLM2_ON_A_GPU } from "./experiments/gpu-kinds.ts";
import { llama, TINYLLAMA_ON_A_GPU } from "./experiments/gpu-llama.ts";
import { clientSwitch, nestedStep, quickstart, start } from "./experiments/training.ts";
import { screening } from "./experiments/screening.ts";
import { watched } from "./experiments/watched.ts";
import { examineGpu, type Gpu } from "./gpu.ts";
import { runExperiments, tableOf } from "./run-experiments.ts";

const onCpu: readonly Experiment[] = [
  fold,
  echoSmall,
  echoLarge,
  wire,
  clientSwitch,
  manyClients,
  millionClients,
  prepareMillion,
  memory,
  partialSums,
  partialSumsOverLink,
  oncePerHost,
  quickstart,
  nestedStep,
  bytes,
  start,
  watched,
  screening,
];

const onGpu = (gpu: Gpu): readonly Experiment[] => [...kindExperiments(SMOLLM2_ON_A_GPU, gpu), llama(TINYLLAMA_ON_A_GPU, gpu)];

const REQUIREMENTS = path.join(packageRoot(), "test", "bench", "requirements.txt");
const { values } = parseArgs({
  options: { gpu: { type: "boolean", default: false }, only: { type: "string", multiple: true }, repeats: { type: "string" } },
});
const gpu = values.gpu ? await examineGpu() : undefined;
const experiments = gpu ? onGpu(gpu) : onCpu;
const asked = values.only ?? experiments.map(({ name }) => name);
const unknown = asked.find((name) => !experiments.some((experiment) => experiment.name === name));
// A card is lent for minutes.
const repeats = Number(values.repeats ?? (gpu ? 1 : 5));
if (unknown !== undefined || !Number.isInteger(repeats) || repeats < 1) {
  const names = experiments.map(({ name }) => name).join(", ");
  process.stderr.write(`bench: --only takes ${names}, and --repeats a whole number of at least 1; got ${unknown ?? values.repeats}\n`);
  process.exit(2);
}

const controller = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => controller.abort());
const folder = mkdtempSync(path.join(tmpdir(), "prelort-bench-"));
try {
  const context = { python: environmentPython(), flower: process.env["PRELORT_FLOWER_PYTHON"] ?? "", folder, signal: controller.signal };
  const chosen = experiments.filter(({ name }) => asked.includes(name));
  const outcome = await runExperiments(chosen, repeats, context, say);
  if (outcome.failed.length > 0) process.exitCode = 1;
  if (outcome.rows.length === 0) {
    say("no figure was measured");
  } else {
    const file = gpu ? "bench-gpu.json" : "bench.json";
    const told = { date: new Date().toISOString(), machine: describeMachine(gpu), ...outcome };
    writeFileSync(path.join(packageRoot(), file), `${JSON.stringify(told, null, 2)}\n`);
    say(`${tableOf(outcome.rows)}\n${file}`);
  }
} catch (error) {
  if (!controller.signal.aborted) throw error;
  process.exitCode = 130;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function describeMachine(card: Gpu | undefined) {
  const flwr = /^flwr\S*==(\S+)$/m.exec(readFileSync(REQUIREMENTS, "utf8"))?.[1];
  return { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version, ...(card ? card.machine : { flwr }) };
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
