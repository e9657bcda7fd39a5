import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { decodeGlobal } from "../../src/adapter/global-file.ts";
import {
  federate,
  type FederateOptions,
  ffaLora,
  fLoRA,
  oortSelection,
  powerOfChoiceSelection,
  productDeltas,
  type RunResult,
  segmentWise,
  selfPruningRanks,
  verifyRun,
  withServerOptimizer,
} from "../../src/index.ts";
import { readLines, temporaryFolder, tinyRun } from "../support/e2e.ts";
import { onPool, sharedWorkers } from "../support/shared-workers.ts";

const folder = temporaryFolder();
const pool = sharedWorkers();

/** On the shared worker, unless it has workers of its own. */
async function run(name: string, strategy: Partial<FederateOptions["strategy"]>, more: Partial<FederateOptions> = {}): Promise<RunResult> {
  const base = tinyRun(folder(), name);
  const options = { ...base, ...more, strategy: { ...base.strategy, ...strategy } };
  return federate(more.workers ? options : onPool(options, pool())).result;
}

function globalAfter(directory: string, round: number) {
  return decodeGlobal(readFileSync(path.join(directory, "rounds", String(round), "global.safetensors")));
}

function clientsOf(directory: string): readonly { id: string; r: number }[][] {
  const rounds = readLines(directory, "journal.jsonl").filter(({ type }) => type === "round");
  return rounds.map(({ clients }) => clients as { id: string; r: number }[]);
}

test("power-of-choice asks workers for losses and selects the highest; FFA-LoRA does not change a byte of A", async () => {
  const selection = powerOfChoiceSelection({ fraction: 0.5, candidates: 4 });
  const { directory } = await run("ffa", { selection, aggregation: ffaLora() });
  expect(clientsOf(directory).map((clients) => clients.length)).toEqual([2, 2]);

  const [before, after] = [globalAfter(directory, 0), globalAfter(directory, 2)];
  for (const { offset, in: a, out: b } of before.layout.modules) {
    for (let start = offset; start < before.adapter.rows.length; start += before.layout.width) {
      expect(after.adapter.rows.slice(start, start + a)).toEqual(before.adapter.rows.slice(start, start + a));
    }
    expect(after.adapter.rows.slice(offset + a, offset + a + b)).not.toEqual(before.adapter.rows.slice(offset + a, offset + a + b));
  }
  const again = await run("ffa-again", { selection, aggregation: ffaLora() }, { workers: { count: 2 } });
  expect(again.sha256).toBe(globalSha(directory));
});

test("Oort explores, then selects by reported losses; FLoRA merges the trained adapters and starts from a fresh one", async () => {
  const profiles = [{ speed: 1 }, { speed: 2 }, { speed: 4 }, { speed: 8 }];
  const data = { ...tinyRun(folder(), "x").data, profiles };
  const { directory, metrics } = await run(
    "flora",
    { selection: oortSelection({ fraction: 0.5 }), aggregation: fLoRA() },
    { data, rounds: 3 },
  );
  const ranks = clientsOf(directory).map((clients) => clients.reduce((sum, { r }) => sum + r, 0));
  const { layout, adapter } = globalAfter(directory, 3);
  expect(adapter.merged?.ends).toEqual([0, ranks[0], ranks[0]! + ranks[1]!, ranks[0]! + ranks[1]! + ranks[2]!]);
  expect(adapter.merged?.rows.length).toBe(adapter.merged!.ends.at(-1)! * layout.width);
  // A fresh adapter adds nothing, so the merged model's loss equals that of its untruncated SVD.
  const last = metrics.at(-1);
  expect(last?.merged?.loss).toBeLessThan(metrics[0]!.byTier[0]!.loss!);
  expect(last?.byTier.at(-1)?.loss).toBeCloseTo(last!.merged!.loss!, 1);
});

test.each([
  ["product-deltas", productDeltas()],
  ["bounded-flora", fLoRA({ incrementRank: 3 })],
])("%s learns, and its rounds are recomputed from the recorded updates", async (name, aggregation) => {
  const { directory, metrics } = await run(
    name,
    { aggregation },
    {
      recordUpdates: true,
      fit: { localSteps: 4, batchSize: 4, lr: 0.01, objective: "none" },
    },
  );
  const [before, after] = [metrics[0]!, metrics.at(-1)!].map(({ byTier, merged }) => merged?.loss ?? byTier.at(-1)!.loss!);
  expect(after).toBeLessThan(before!);
  const verified = await verifyRun(directory);
  expect(verified.map(({ problems }) => problems)).toEqual(verified.map(() => []));
  expect(verified.at(-1)?.round).toBe(2);
});

test("self-pruning clients lose rank once the energy of their last rows falls, and the server optimizer's state is saved with each round", async () => {
  const aggregation = withServerOptimizer(segmentWise(), { name: "momentum", momentum: 0.5 });
  const rankAssignment = selfPruningRanks({ ranks: [8, 4, 2, 1], penalty: 50 });
  const { directory, layout } = await run("pruned", { rankAssignment, aggregation }, { rounds: 3 });
  const [first, , third] = clientsOf(directory);
  expect(first?.map(({ r }) => r)).toEqual([8, 4, 2, 1]);
  expect(third!.reduce((sum, { r }) => sum + r, 0)).toBeLessThan(15);
  const state = readFileSync(path.join(directory, "rounds/3/server-state.safetensors"));
  expect(state.length).toBeGreaterThan(4 * layout.r * layout.width);
});

function globalSha(directory: string): unknown {
  return readLines(directory, "journal.jsonl").findLast(({ type }) => type === "commit")?.["sha256"];
}
