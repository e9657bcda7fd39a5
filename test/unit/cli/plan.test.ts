import { access } from "node:fs/promises";
import stringWidth from "string-width";
import { expect, test } from "vitest";
import { describePlan, writing } from "../../../src/cli/plan.ts";
import { ConfigError } from "../../../src/errors.ts";
import type { Plan } from "../../../src/planning/plan.ts";

const planned: Plan = {
  clients: Array.from({ length: 60 }, (_, index) => ({
    id: `c${String(index).padStart(2, "0")}`,
    index,
    size: 1023,
    r: 16,
    rounds: [1, 2, 3, 4, 5, 6],
    steps: 12,
    bytesPerFit: { down: 615.1 * 1024, up: 615.1 * 1024 },
    tokens: 15_949,
    truncated: 0,
    labelCounts: [],
    profile: {},
    mix: [
      { value: "noun.communication", n: 376 },
      { value: "noun.person", n: 139 },
      { value: "noun.body", n: 508 },
    ],
  })),
  tiers: [1, 16],
  rounds: 6,
  training: {
    optimizer: "adafactor",
    serverOptimizer: "yogi",
    batchSize: 16,
    warmupSteps: 3,
    rates: [1, 2, 3, 2.5, 2, 1.23456].map((thousandths) => ({
      lr: thousandths / 1000,
      lrB: thousandths / 62.5,
      headLr: thousandths / 500,
    })),
  },
  labels: [],
  evalExamples: 256,
  truncated: 379,
  remarks: ["mind the data"],
  adapted: [{ name: "layer.*.query", in: 384, out: 383, count: 6 }],
  leftOut: [{ name: "layer.*.key", kind: "Linear", count: 5, parameters: 884_736 }],
  adaptedModules: 12,
  baseParameters: 22_565_376,
  adapterParameters: 147_456,
  denseParameters: 10_010,
  bytesDown: 12.4 * 2 ** 20,
  bytesUp: 12.3 * 2 ** 20,
  mayStopEarly: true,
  disk: { rounds: 7, roundBytes: 42 * 2 ** 20, updateBytes: 6 * 2 ** 20, stateBytes: 0, adapterBytes: 2 * 2 ** 20 },
  time: {
    tiers: [{ r: 16, stepSeconds: 0.125, fitSeconds: 1.25, steps: 10, peakMemoryBytes: 2 ** 30 }],
    exampleSeconds: 0.0035,
    generateSeconds: 0.75,
    workers: 2,
    fitSecondsPerRound: 8.5,
    evaluateSeconds: 2.25,
    runSeconds: 61,
  },
  slots: { slotsPerDevice: 3, device: { type: "cpu", name: "x86_64", memoryBytes: 2 ** 33 }, peakMemoryBytes: 2 ** 30 },
  machines: null,
};

test("a plan's table fits 80 columns with the quickstart's labels and byte counts", () => {
  const lines = describePlan(planned, 80).split("\n");
  const table = lines.slice(0, lines.findLastIndex((line) => line.startsWith("─")) + 1);
  expect(table.length).toBeGreaterThan(20);
  for (const line of table) expect(stringWidth(line)).toBeLessThanOrEqual(80);
});

test("a plan is described with every number that it has", () => {
  const lines = describePlan(planned, 200).split("\n");
  expect(lines.some((line) => /^ all +61,380 +956,940 +360\b/.test(line))).toBe(true);
  expect(lines.some((line) => /^ median +1,023\b/.test(line))).toBe(true);
  expect(lines.some((line) => /^ c50 +1,023 +15,949 +16 +6 +615\.1 KiB +615\.1 KiB/.test(line))).toBe(true);
  const text = lines.slice(lines.findLastIndex((line) => line.startsWith("─")) + 1).join("\n");
  for (const facts of [
    /10 largest and the 10 smallest of 60 clients.*--json/,
    /rank 16 on 12 modules, 147,456 parameters .*10,010.* 22,565,376 .*1, 16/,
    /adapted: .*layer\.\*\.query, 384 → 383.*6/,
    /left out: layer\.\*\.key \(Linear.*5\), 884,736/,
    /6 rounds if stop_when .*, 360 fits.*12\.4 MiB down.*12\.3 MiB up/,
    /training: 12 steps of 16 examples with adafactor; lr 0\.001 in round 1, 0\.003 in round 3, 0\.00123 in round 6; of B 16 times .*; of modules trained in full 2 times .*after 3 steps of warmup.*yogi/,
    /disk: .*50\.0 MiB of tensors: 7 rounds at once .*42\.0 MiB, updates 6\.0 MiB, adapters 2\.0 MiB/,
    /256 examples.*379.*data\.max_length/,
    /note: mind the data/,
    /rank 16: 0\.125 s .*1\.25 s .*1\.0 GiB/,
    /evaluation: 3\.5 ms .*750 ms/,
    /2 workers.*8\.5 s .*2\.3 s .*1 min 1 s .*6 rounds/,
    /1\.0 GiB .*8\.0 GiB .*3 workers .*workers\.slots_per_device: 3/,
  ]) {
    expect(text).toMatch(facts);
  }
});

test("where clients train different numbers of steps, each has its own; rates that stay the same are told once", () => {
  const clients = planned.clients.map((client, index) => ({ ...client, steps: 10 + index }));
  const training = {
    ...planned.training,
    serverOptimizer: null,
    warmupSteps: 0,
    rates: planned.training.rates.map(() => ({ lr: 0.003, lrB: 0.003, headLr: 0.003 })),
  };
  const text = describePlan({ ...planned, clients, training }, 200);
  expect(text).toMatch(/^training: 10 to 69 steps of 16 examples with adafactor; lr 0\.003$/m);
  expect(text).toMatch(/^ c50 +1,023 +15,949 +16 +6 +60 +615\.1 KiB/m);
  for (const line of describePlan({ ...planned, clients }, 80).split("\n")) {
    if (line.startsWith(" c")) expect(stringWidth(line)).toBeLessThanOrEqual(80);
  }
});

test("a picture in a missing folder is refused by the option and the folder", async () => {
  const error: unknown = await writing("nodir/picture.svg", access("nodir")).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).issues).toEqual([
    { path: "--picture", message: expect.stringMatching(/\bnodir\b(?!\/picture)/), isArgument: true },
  ]);
});

test("the plan of workers elsewhere says how much goes to each machine, and what a cluster is asked for", () => {
  const machines = { hosts: ["gpu-1", "gpu-2"], bytesDown: 2 * 2 ** 20, cluster: null };
  const [onHosts] = describePlan({ ...planned, machines }, 200)
    .split("\n")
    .filter((line) => line.startsWith("machines:"));
  expect(onHosts).toMatch(/gpu-1, gpu-2; at most 2\.0 MiB down to each\b.*; 12\.3 MiB up/);
  const cluster = { address: "https://ray", resources: { CPU: 4, GPU: 1 }, asked: { min: 2, max: 16 }, nodes: 3, workers: 12 };
  const onRay = describePlan({ ...planned, machines: { hosts: null, bytesDown: null, cluster } }, 200).split("\n");
  expect(onRay.find((line) => line.startsWith("machines:"))).toMatch(/Ray chooses; 12\.3 MiB up/);
  expect(onRay.find((line) => line.startsWith("cluster:"))).toMatch(
    /https:\/\/ray\b.* 2 to 16 workers .*4 CPU and 1 GPU\b.* 3 nodes .* 12\b/,
  );
});
