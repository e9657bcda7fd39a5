import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { federate, type FederateOptions } from "../../src/index.ts";
import { watchSums } from "../support/merged-sums.ts";
import { readLines, temporaryFolder, tinyRun } from "../support/e2e.ts";

const runs = temporaryFolder();
type Wire = NonNullable<FederateOptions["wire"]>;

async function run(wire: Wire, count: number, partialSums: FederateOptions["partialSums"]) {
  const name = `${wire.update}-${wire.downlink}-${count}`;
  const base = tinyRun(runs(), name);
  let sums = 0;
  const aggregation = watchSums(base.strategy.aggregation, () => sums++);
  const strategy = { ...base.strategy, aggregation };
  const result = await federate({ ...base, strategy, wire, partialSums, workers: { count } }).result;
  expect(sums > 0).toBe(partialSums !== false);
  return { ...result, text: readFileSync(path.join(result.directory, "metrics.jsonl"), "utf8") };
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
    const [two, one] = [await run(wire, 2, false), await run(wire, 1, { every: 3 })];
    expect(one.sha256).toBe(two.sha256);
    expect(one.text).toBe(two.text);
    const [before, , after] = readLines(two.directory, "metrics.jsonl") as {
      bytes_down: number;
      bytes_up: number;
      by_tier: { loss: number }[];
    }[];
    expect([after?.bytes_down, after?.bytes_up]).toEqual([down, up]);
    expect(after?.by_tier[3]?.loss).toBeLessThan(before?.by_tier[3]?.loss ?? 0);
  },
);
