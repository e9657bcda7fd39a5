import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { federate, type FederateOptions, processLauncher, randomSelection, type WorkerLauncher } from "../../src/index.ts";
import { watchSums } from "../support/merged-sums.ts";
import { python, readLines, temporaryFolder, tinyRun } from "../support/e2e.ts";
import { onPool, sharedWorkers } from "../support/shared-workers.ts";

const runs = temporaryFolder();
const pool = sharedWorkers({ workers: { count: 2 } });
type Wire = NonNullable<FederateOptions["wire"]>;

/** On the two shared workers, unless it has workers of its own, which may add updates up. */
async function run(name: string, own: Partial<FederateOptions>, more: Partial<FederateOptions>) {
  const base = { ...tinyRun(runs(), name), ...more };
  let sums = 0;
  const aggregation = watchSums(base.strategy.aggregation, () => sums++);
  const options = { ...base, ...own, strategy: { ...base.strategy, aggregation } };
  const { directory, sha256 } = await federate(own.workers ? options : onPool(options, pool())).result;
  expect(sums > 0).toBe(own.partialSums !== undefined);
  return { directory, bytes: { sha256, metrics: readFileSync(path.join(directory, "metrics.jsonl"), "utf8") } };
}

/** Floats in the rows of clients of ranks 8, 4, 2 and 1: two modules in two layers, 112 floats per component. */
const lengths = [8, 4, 2, 1].map((r) => r * 2 * 112);
const total = (bytesOf: (length: number) => number) => lengths.reduce((sum, length) => sum + bytesOf(length), 0);

test.each<[Wire, number, number]>([
  [{ update: "bf16", downlink: "bf16" }, total((n) => 2 * n), total((n) => 2 * n)],
  [{ update: "f16", downlink: "f32" }, total((n) => 4 * n), total((n) => 2 * n)],
  [{ update: "int8", downlink: "bf16" }, total((n) => 2 * n), total((n) => n + 4 * Math.ceil(n / 256))],
])(
  "%j trains, sends as many bytes as it should, and gives the same result with two workers and with one that adds them up",
  async (wire, down, up) => {
    const name = `${wire.update}-${wire.downlink}`;
    const two = await run(`${name}-2`, {}, { wire });
    const one = await run(`${name}-1`, { workers: { count: 1 }, partialSums: { every: 3 } }, { wire });
    expect(one.bytes).toEqual(two.bytes);
    const [before, , after] = readLines(two.directory, "metrics.jsonl") as {
      bytes_down: number;
      bytes_up: number;
      by_tier: { loss: number }[];
    }[];
    expect([after?.bytes_down, after?.bytes_up]).toEqual([down, up]);
    expect(after?.by_tier[3]?.loss).toBeLessThan(before?.by_tier[3]?.loss ?? 0);
  },
);

test("one seed gives the same bytes with two workers, repeated with partial sums, and with one whose tensors use the socket, not shared memory", async () => {
  const strategy = { ...tinyRun(runs(), "x").strategy, selection: randomSelection({ fraction: 0.75 }) };
  const two = await run("two", {}, { strategy });
  const again = await run("two-again", { workers: { count: 2 }, partialSums: { every: 2, encoding: "f64" } }, { strategy });
  expect(again.bytes).toEqual(two.bytes);
  const local = processLauncher({ command: python });
  const remote: WorkerLauncher = { launch: (options) => ({ ...local.launch(options), pid: undefined }) };
  const one = await run("one", { workers: { count: 1 }, launcher: remote }, { strategy });
  expect(one.bytes).toEqual(two.bytes);
});
