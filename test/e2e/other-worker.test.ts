import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { beforeAll, expect, test } from "vitest";
import { allClients, federate, type FederateOptions, listRanks, processLauncher, segmentWise } from "../../src/index.ts";
import { root, temporaryFolder, workersOf } from "../support/e2e.ts";

// A worker in another language, written from the wire contract alone.

const folder = temporaryFolder();
const launcher = processLauncher({ command: process.execPath, args: [path.join(root, "test/fixtures/other-worker.mjs")] });

beforeAll(() => {
  // Three clouds of points in a plane, plus a constant feature.
  const centres = [
    [2, 0],
    [-1, 2],
    [-1, -2],
  ] as const;
  const points = Array.from({ length: 240 }, (_, index) => {
    const [x, y] = centres[index % 3]!;
    const jitter = (salt: number) => ((index * salt) % 17) / 17 - 0.5;
    return JSON.stringify({ x: [x + jitter(5), y + jitter(11), 1], cloud: "abc"[index % 3] });
  });
  writeFileSync(path.join(folder(), "points.jsonl"), `${points.join("\n")}\n`);
});

function options(name: string, count: number): FederateOptions {
  return {
    name,
    runsDir: path.join(folder(), "runs"),
    seed: 5,
    rounds: 12,
    model: { nameOrPath: "softmax-regression", task: "points:Softmax" },
    lora: { r: 3, tiers: [1, 2, 3], target_modules: ["linear"] },
    data: { path: path.join(folder(), "points.jsonl"), label: "cloud", evalExamples: 60, clients: 4 },
    strategy: { selection: allClients(), rankAssignment: listRanks([3, 2, 1, 1]), aggregation: segmentWise() },
    fit: { objective: "none", localSteps: 60, batchSize: 8, lr: 0.1 },
    evaluate: { shardSize: 25, every: 4 },
    workers: { count },
    launcher,
  };
}

test("workers in another language learn at every tier, to the same bytes with one or two of them and after one is killed", async () => {
  const alone = await federate(options("alone", 1)).result;
  const [before, after] = [alone.metrics[0]!, alone.metrics.at(-1)!];
  for (const [index, { r, loss, accuracy, own }] of after.byTier.entries()) {
    expect(loss, `tier ${r}`).toBeLessThan(before.byTier[index]!.loss!);
    expect(accuracy, `tier ${r}`).toBeGreaterThan(0.6);
    expect(own).toEqual([{ name: "confidence", value: expect.any(Number) as number }]);
  }

  const run = federate(options("two", 2));
  const [pids, ended] = [new Map<string, number>(), new Set<string>()];
  for await (const event of run) {
    if (event.type === "worker-ready") pids.set(event.workerId, event.pid);
    if (event.type === "worker-status" && event.state === "failed") ended.add(event.workerId);
    // The last worker that is ready; usually both are by then.
    if (event.type === "round-start" && event.round === 2) process.kill([...pids.values()].at(-1)!, "SIGKILL");
  }
  expect((await run.result).sha256).toBe(alone.sha256);
  expect(ended.size).toBe(1);
  expect(workersOf(process.pid)).toEqual([]);
  const record = JSON.parse(readFileSync(path.join(folder(), "runs/two/run.json"), "utf8")) as {
    labels: string[];
    device: { name: string };
  };
  expect(record).toMatchObject({ labels: ["a", "b", "c"], device: { name: "JavaScript" } });
});
