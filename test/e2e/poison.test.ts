import { beforeAll, describe, expect, test } from "vitest";
import {
  type Aggregation,
  federate,
  type FederateOptions,
  listRanks,
  type RobustOptions,
  type RunEvent,
  type RunResult,
  segmentWise,
  withUpdateBound,
} from "../../src/index.ts";
import { verifyRun } from "../../src/server/verify.ts";
import { temporaryFolder, tinyRun } from "../support/e2e.ts";
import { faultyWorkers } from "../support/faulty-workers.ts";
import { onPool, sharedWorkers } from "../support/shared-workers.ts";

/* Twelve clients, four of which send their update times -10 in every round. Those four train both segments. */

const runs = temporaryFolder();
const { launcher, setFaults } = faultyWorkers(runs);
const pool = sharedWorkers({ workers: { count: 1, retries: 0 }, launcher });
const MALICIOUS = ["c00", "c03", "c06", "c09"];

interface Played extends RunResult {
  readonly failures: readonly Extract<RunEvent, { type: "client-failure" }>[];
}

async function play(name: string, aggregation: Aggregation): Promise<Played> {
  const base = onPool(tinyRun(runs(), name), pool());
  const options: FederateOptions = {
    ...base,
    rounds: 4,
    lora: { ...base.lora, r: 4, tiers: [2, 4] },
    data: { ...base.data, clients: 12 },
    strategy: { ...base.strategy, rankAssignment: listRanks([4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2]), aggregation },
    recordUpdates: true,
  };
  const run = federate(options);
  const failures: Extract<RunEvent, { type: "client-failure" }>[] = [];
  for await (const event of run) if (event.type === "client-failure") failures.push(event);
  return { ...(await run.result), failures };
}

/** Loss of the global adapter at each tier, after the last round or before the first. */
function lossesOf({ metrics }: RunResult, round = -1): readonly number[] {
  return metrics.at(round)!.byTier.map(({ loss }) => loss!);
}

const robustly = (robust: RobustOptions) => segmentWise({ robust });
const aggregations = {
  mean: segmentWise(),
  clip: robustly({ name: "clip", norm: 1 }),
  median: robustly({ name: "median" }),
  // Leaves out four at each end, with 11 clients as well as with 12.
  "trimmed-mean": robustly({ name: "trimmed-mean", trim: 0.4 }),
  "multi-krum": robustly({ name: "multi-krum", malicious: MALICIOUS.length }),
  bound: withUpdateBound(segmentWise()),
};
const played = new Map<string, Played>();

beforeAll(async () => {
  played.set("honest", await play("honest", segmentWise()));
  setFaults({ fits: Object.fromEntries(MALICIOUS.map((id) => [id, "poison"])) });
  for (const [name, aggregation] of Object.entries(aggregations)) played.set(name, await play(name, aggregation));
});

test("with a third of the clients malicious, the plain mean ends worse than before training", () => {
  const [honest, harmed] = [played.get("honest")!, played.get("mean")!];
  for (const [tier, before] of lossesOf(honest, 0).entries()) {
    expect(lossesOf(honest)[tier]).toBeLessThan(before - 0.1);
    expect(lossesOf(harmed)[tier]).toBeGreaterThan(before + 0.1);
  }
});

describe("at every tier only a small part of that harm remains with", () => {
  test.each([
    // Clipped updates still pull back a third of the way.
    ["clip", 0.45],
    ["median", 0.12],
    ["trimmed-mean", 0.12],
    ["multi-krum", 0.05],
    // The first round has no bound yet.
    ["bound", 0.2],
  ])("%s: %s", (name, part) => {
    const [honest, harmed, received] = ["honest", "mean", name].map((key) => lossesOf(played.get(key)!));
    const before = lossesOf(played.get(name)!, 0);
    for (const [tier, loss] of received!.entries()) {
      const harm = (loss - honest![tier]!) / (harmed![tier]! - honest![tier]!);
      expect(harm).toBeLessThan(part);
      expect(loss).toBeLessThan(before[tier]!);
    }
  });
});

test("the bound refuses exactly the malicious clients, by name, from the second round on", () => {
  const { failures, metrics } = played.get("bound")!;
  expect(metrics.map(({ failed }) => failed)).toEqual([[], [], MALICIOUS, MALICIOUS, MALICIOUS]);
  for (const { clientId, error } of failures) {
    const [, bound, norm] = new RegExp(`\\b${clientId}: norm: \\D*([\\d.]+).*\\brank 4\\b.*?\\b([\\d.]+)$`).exec(error) ?? [];
    expect(Number(norm), error).toBeGreaterThan(Number(bound));
  }
});

test.each(["median", "multi-krum", "bound"])(
  "verify recomputes what %s made of the recorded updates, and the server's state, byte for byte",
  async (name) => {
    const verified = await verifyRun(played.get(name)!.directory);
    expect(verified.map(({ updates }) => updates)).toEqual(name === "bound" ? [0, 12, 8, 8, 8] : [0, 12, 12, 12, 12]);
    expect(verified.flatMap(({ problems }) => problems)).toEqual([]);
  },
);
