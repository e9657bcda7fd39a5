/*
 * npm run bench -- [--only NAME …] [--repeats N]
 *
 * Measures prelort and its peers side by side, prints each figure as a ratio within one repeat, writes bench.json.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { renderTextTable } from "../../dist/report/text-table.js";
import { environmentPython, packageRoot } from "../../dist/installation.js";
import type { Experiment } from "./experiment.ts";
import { bytes } from "./experiments/bytes.ts";
import { echoLarge, echoSmall, manyClients, memory, millionClients, prepareMillion, wire } from "./experiments/echo.ts";
import { oncePerHost, partialSums, partialSumsOverLink } from "./experiments/partial-sums.ts";
import { fold } from "./experiments/fold.ts";
import { clientSwitch, nestedStep, quickstart, start } from "./experiments/training.ts";
import { screening } from "./experiments/screening.ts";
import { watched } from "./experiments/watched.ts";
import { type Row, type Sample, summarise } from "./figures.ts";

const experiments: readonly Experiment[] = [
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

const REQUIREMENTS = path.join(packageRoot(), "test", "bench", "requirements.txt");
const { values } = parseArgs({ options: { only: { type: "string", multiple: true }, repeats: { type: "string", default: "5" } } });
const asked = values.only ?? experiments.map(({ name }) => name);
const unknown = asked.find((name) => !experiments.some((experiment) => experiment.name === name));
const repeats = Number(values.repeats);
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
  const rows: Row[] = [];
  for (const experiment of experiments.filter(({ name }) => asked.includes(name))) {
    if (experiment.needs && !experiment.needs.isThere()) {
      process.stdout.write(`${experiment.name}: skipped, since it needs ${experiment.needs.what}\n`);
      continue;
    }
    const samples: Sample[] = [];
    const times = Math.min(repeats, experiment.atMostRepeats ?? repeats);
    for (let repeat = 0; repeat < times; repeat++) {
      process.stdout.write(`${experiment.name}: ${repeat + 1} of ${times}\n`);
      samples.push(await experiment.measure(context, repeat));
    }
    const measured = experiment.rows.map((row) => summarise(row, samples));
    process.stdout.write(`${tableOf(measured)}\n`);
    rows.push(...measured);
  }
  const [cpu] = cpus();
  const machine = {
    cpu: cpu?.model,
    cores: cpus().length,
    node: process.version,
    flwr: /^flwr\S*==(\S+)$/m.exec(readFileSync(REQUIREMENTS, "utf8"))?.[1],
  };
  writeFileSync(path.join(packageRoot(), "bench.json"), `${JSON.stringify({ date: new Date().toISOString(), machine, rows }, null, 2)}\n`);
  process.stdout.write(`${tableOf(rows)}\nbench.json\n`);
} catch (error) {
  if (!controller.signal.aborted) throw error;
  process.exitCode = 130;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function tableOf(rows: readonly Row[]): string {
  const cells = rows.map(({ name, unit, ours, peer, peerName, ratio, spread: [least, most], target, met }) => {
    const verdict = met === null ? "" : met ? "met" : "missed";
    const range = `${short(least)}–${short(most)}`;
    return [name, `${short(ours)} ${unit}`, `${short(peer)} (${peerName})`, short(ratio), range, target ?? "", verdict];
  });
  const columns = ["what", "ours", "peer", "ratio", "spread", "to reach", ""];
  return renderTextTable({ title: "", columns, rows: cells }, process.stdout.columns);
}

function short(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
}
