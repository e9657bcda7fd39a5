import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { initialAdapter } from "../../../src/adapter/initialise.ts";
import { createLayout } from "../../../src/adapter/layout.ts";
import { describeConfig, validateRun } from "../../../src/config/build.ts";
import type { RunInput } from "../../../src/config/schema.ts";
import { verifyRun } from "../../../src/server/verify.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { deriveSeed } from "../../../src/base/rng.ts";
import { randomAdapter } from "../../../src/testing/index.ts";
import { madeRuns } from "../../support/made-run.ts";

const layout = createLayout({ r: 4, tiers: [4], scale: 2 }, { modules: [{ name: "x.q", in: 6, out: 5 }], dense: [] });
const config = {
  rounds: 2,
  seed: 7,
  model: { nameOrPath: "some/base", task: "causal-lm" },
  lora: { r: 4, target_modules: ["q"] },
  data: { path: "words.jsonl", prompt: "", answer: "{gloss}", clients: 1 },
  strategy: { selection: allClients(), rankAssignment: () => 4, aggregation: segmentWise() },
} satisfies RunInput;
const start = initialAdapter(layout, new Float32Array(0), deriveSeed(7, "adapter"));
const runs = madeRuns();

/** A run of one round, trained with a rank assignment from a script. */
async function make(name: string): Promise<string> {
  const directory = await runs.make({ name, layout, rounds: [start, randomAdapter(layout, 4, "one")] });
  const file = path.join(directory, "run.json");
  const record = JSON.parse(readFileSync(file, "utf8")) as object;
  const clients = [{ id: "c0", n: 10, r: 4, label_counts: [], mix: [], tokens: 0 }];
  writeFileSync(file, JSON.stringify({ ...record, config: describeConfig(validateRun(config)), clients }));
  return directory;
}

test("a run with a script's policies but without recorded updates is verified by its hashes, and its start by its seed", async () => {
  expect(await verifyRun(await make("hashes"))).toEqual([
    {
      round: 0,
      updates: 0,
      isAdapterVerified: true,
      isKept: true,
      problems: [expect.stringMatching(/metrics are missing.*prelort resume/)],
    },
    { round: 1, updates: null, isAdapterVerified: true, isKept: true, problems: [] },
  ]);
});

test("a run with a script's policies and recorded updates can only be verified with its config", async () => {
  const directory = await make("updates");
  mkdirSync(path.join(directory, "updates/1"), { recursive: true });
  await expect(verifyRun(directory)).rejects.toMatchObject({
    kind: "config",
    issues: [{ path: "strategy.rank_assignment", message: expect.stringContaining("verifyRun(dir, { config })") }],
  });
  expect((await verifyRun(directory, { config })).map(({ round }) => round)).toEqual([0, 1]);
});
