import { appendFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadRun } from "../../../src/server/loaded-run.ts";
import { readEnding } from "../../../src/track/ending.ts";
import { trainTiny } from "../../support/ui-runs.ts";

let runsDir: string;
beforeAll(async () => {
  runsDir = await mkdtemp(path.join(tmpdir(), "prelort-ending-"));
});
afterAll(() => rm(runsDir, { recursive: true }));

test("trackers are told the best round and why a run stopped, whatever its state, and also of a run whose file has a damaged line", async () => {
  const best = { metric: "accuracy", at: 4 } as const;
  await trainTiny({ runsDir, name: "stopped", rounds: 9, evaluate: { best }, stopWhen: { patience: 1, minDelta: 1 } });
  const directory = path.join(runsDir, "stopped");
  const judged = await loadRun(directory);
  expect(judged.best).toMatchObject(best);
  const told = { best: judged.best, stopped: { round: 2, reason: "patience" } };
  expect(await readEnding(directory, "finished")).toEqual({ state: "finished", ...told });
  appendFileSync(path.join(directory, "metrics.jsonl"), "damaged\n");
  expect(await readEnding(directory, "killed")).toEqual({ state: "killed", ...told });
});

test("trackers are told of no best round of a run that has none", async () => {
  await trainTiny({ runsDir, name: "plain", rounds: 1 });
  expect(await readEnding(path.join(runsDir, "plain"), "finished")).toEqual({ state: "finished" });
});
