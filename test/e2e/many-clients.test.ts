import { readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { beforeAll, expect, test } from "vitest";
import {
  federate,
  type FederateOptions,
  plan,
  processLauncher,
  randomSelection,
  segmentWise,
  tieredRanks,
  verifyRun,
  writeReport,
} from "../../src/index.ts";
import { readLines, root, temporaryFolder } from "../support/e2e.ts";
import { sharedWorkers } from "../support/shared-workers.ts";

// More clients than one frame could list, or than a function takes as arguments.

const CLIENTS = 120_000;
const folder = temporaryFolder();
const launcher = processLauncher({ command: process.execPath, args: [path.join(root, "test/fixtures/other-worker.mjs")] });
const pool = sharedWorkers({ launcher });

beforeAll(() => {
  const points = Array.from({ length: CLIENTS + 60 }, (_, index) => `{"x":[${index % 7},${index % 3}],"cloud":"${"abc"[index % 3]}"}`);
  writeFileSync(path.join(folder(), "points.jsonl"), `${points.join("\n")}\n`);
});

function options(name: string): FederateOptions {
  return {
    name,
    runsDir: path.join(folder(), "runs"),
    seed: 5,
    rounds: 3,
    model: { nameOrPath: "softmax-regression", task: "points:Softmax" },
    lora: { r: 2, tiers: [1, 2], target_modules: ["linear"] },
    data: { path: path.join(folder(), "points.jsonl"), label: "cloud", evalExamples: 60, clients: CLIENTS },
    strategy: {
      selection: randomSelection({ fraction: 4 / CLIENTS }),
      rankAssignment: tieredRanks({ 1: 0.9, 2: 0.1 }),
      aggregation: segmentWise(),
    },
    fit: { objective: "none", localSteps: 2, batchSize: 1, lr: 0.1 },
  };
}

test("a run over 120,000 clients trains, is resumed to the same bytes, verified, reported and planned", async () => {
  const train = (name: string, changes: Partial<FederateOptions> = {}) => federate({ ...options(name), ...changes, pool: pool() });
  const whole = await train("whole").result;
  expect(whole.metrics.map(({ reported }) => reported.length)).toEqual([0, 4, 4, 4]);

  const controller = new AbortController();
  const stopped = train("stopped", { signal: controller.signal });
  for await (const event of stopped) {
    if (event.type === "data-ready") expect(event.clients).toHaveLength(CLIENTS);
    if (event.type === "round-end" && event.round === 1) break;
  }
  controller.abort();
  await expect(stopped.result).rejects.toMatchObject({ kind: "interrupted" });
  const { directory, sha256 } = await train("stopped", { resume: true }).result;
  expect(sha256).toBe(whole.sha256);
  expect(readFileSync(path.join(directory, "metrics.jsonl"))).toEqual(readFileSync(path.join(whole.directory, "metrics.jsonl")));

  const record = JSON.parse(readFileSync(path.join(directory, "run.json"), "utf8")) as { clients: { count: number } };
  expect(record.clients.count).toBe(CLIENTS);
  const table = JSON.parse(readFileSync(path.join(directory, "clients.json"), "utf8")) as Record<string, number[]>;
  expect(table["r"]?.filter((r) => r === 2)).toHaveLength(CLIENTS / 10);
  // What is written each round grows with the clients that train, not with those that are registered.
  expect(statSync(path.join(directory, "run.json")).size).toBeLessThan(10_000);
  for (const entry of readLines(directory, "journal.jsonl")) expect(JSON.stringify(entry).length).toBeLessThan(5000);

  expect((await verifyRun(directory)).flatMap(({ problems }) => problems)).toEqual([]);
  const report = await writeReport(directory);
  expect(statSync(report).size).toBeLessThan(500_000);

  const planned = await plan({ ...options("plan"), workers: { count: 1 }, launcher });
  expect(planned.clients).toHaveLength(CLIENTS);
  const trained = readLines(directory, "journal.jsonl").flatMap(({ type, clients }) =>
    type === "round" ? (clients as { id: string }[]) : [],
  );
  const willTrain = planned.clients.filter(({ rounds }) => rounds.length > 0).map(({ id }) => id);
  expect(willTrain).toEqual([...new Set(trained.map(({ id }) => id))].toSorted((a, b) => Number(a.slice(1)) - Number(b.slice(1))));
});
