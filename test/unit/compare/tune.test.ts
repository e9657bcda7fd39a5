import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { rungsOf, tune, type TuneOptions, type TuneResult } from "../../../src/compare/tune.ts";
import { RunFailedError } from "../../../src/errors.ts";
import { readRounds, readRun } from "../../../src/records/read-run.ts";
import type { Selection } from "../../../src/strategy/strategy.ts";
import { tuneMarkdown } from "../../../src/compare/write-tune.ts";
import { federate } from "../../../src/server/federate.ts";
import { tinyRun } from "../../../src/testing/index.ts";
import { finalLoss } from "../../../src/compare/learning-rate-search.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "prelort-tune-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
const VALUES = [0.001, 0.01, 0.05, 0.2, 1e36];

async function search(options: TuneOptions = {}, runsDir = "") {
  const folder = runsDir === "" ? await makeFolder() : runsDir;
  const { launcher, ...input } = tinyRun({ runsDir: folder, name: "tiny", rounds: 4, seed: 7, fit: { localSteps: 4, batchSize: 8 } });
  return { folder, result: await tune(input, { launcher, values: VALUES, ...options }) };
}

test("rungs are a quarter, half and all of the rounds", () => {
  expect([1, 2, 3, 4, 6, 10, 20].map(rungsOf)).toEqual([[1], [1, 2], [1, 2, 3], [1, 2, 4], [2, 4, 6], [3, 6, 10], [5, 10, 20]]);
});

test("the worse half of the values is left out at each rung, and what remains is as in the whole grid", async () => {
  const { folder, result } = await search();
  const grid = (await search({ grid: true })).result;
  expect(grid.rungs).toEqual([4]);
  const byLr = new Map(grid.trials.map(({ lr, losses }) => [lr, losses[0]]));
  expect(byLr.get(1e36)).toBeNull();
  // Five values, the better three of them, and the better two of these.
  expect(result.trials.map(({ losses }) => losses.length).toSorted((a, b) => a - b)).toEqual([1, 1, 2, 3, 3]);
  expect(result.trials.find(({ lr }) => lr === 1e36)?.losses).toEqual([null]);
  const [first, second] = [0, 1].map((rung) => {
    const reached = result.trials.filter(({ losses }) => losses.length > rung);
    const ordered = reached.toSorted((a, b) => (a.losses[rung] ?? Infinity) - (b.losses[rung] ?? Infinity));
    return ordered.map(({ lr }) => lr);
  });
  const beyond = (rung: number) => result.trials.filter(({ losses }) => losses.length > rung + 1).map(({ lr }) => lr);
  expect(new Set(beyond(0))).toEqual(new Set(first?.slice(0, 3)));
  expect(new Set(beyond(1))).toEqual(new Set(second?.slice(0, 2)));
  for (const { lr, losses } of result.trials) if (losses.length === 3) expect(losses[2]).toBe(byLr.get(lr));
  expect(result.chosen).toBe(grid.chosen);
  expect([result.trainedRounds, result.gridRounds, grid.trainedRounds]).toEqual([0 + 1 + 2 + 4 + 4, 20, 16]);
  expect(result).toMatchObject({ name: "tiny-tune", seeds: [8], rungs: [1, 2, 4] });
  // Rounds that were left out were not trained.
  for (const { lr, losses } of result.trials.filter((trial) => trial.lr < 1e36)) {
    const rounds = await readRounds(path.join(folder, "tiny-tune", `lr-${lr}.seed-8`));
    expect(rounds.at(-1)?.round).toBeLessThanOrEqual(result.rungs[losses.length - 1]! + 1);
  }
});

test("a trial that stopped and went on has the figures of a run of its own", async () => {
  const { result } = await search();
  const { lr } = result.trials.find(({ losses }) => losses.length === 3)!;
  const runsDir = await makeFolder();
  const alone = federate(tinyRun({ runsDir, name: "alone", rounds: 4, seed: 8, fit: { localSteps: 4, batchSize: 8, lr } }));
  expect(result.trials.find((trial) => trial.lr === lr)?.losses.at(-1)).toBe(finalLoss((await alone.result).metrics));
});

test("a search that was stopped goes on where it was, and one that is over trains nothing", async () => {
  const stopping = new AbortController();
  const runsDir = await makeFolder();
  const started: string[] = [];
  const stopped = search(
    {
      signal: stopping.signal,
      jobs: 1,
      onRun({ state, name }) {
        if (state === "started") started.push(name);
        if (started.length === 7) stopping.abort();
      },
    },
    runsDir,
  );
  await expect(stopped).rejects.toMatchObject({ kind: "interrupted" });
  const again: string[] = [];
  const { result } = await search({ jobs: 1, onRun: ({ state, name }) => void (state === "started" && again.push(name)) }, runsDir);
  // Of a client that diverged first, whichever that was.
  const withoutReasons = ({ trials, ...rest }: TuneResult) => ({ ...rest, trials: trials.map(({ lr, losses }) => ({ lr, losses })) });
  expect(withoutReasons(result)).toEqual(withoutReasons((await search()).result));
  // What diverged, two of the three of the second rung, and two of the third; a search from the start begins ten.
  expect(again.length).toBeLessThanOrEqual(1 + 2 + 2);
  const nothing: string[] = [];
  expect((await search({ onRun: ({ state, name }) => void (state === "started" && nothing.push(name)) }, runsDir)).result.chosen).toBe(
    result.chosen,
  );
  // Only what diverged, and so never ends.
  expect(new Set(nothing)).toEqual(new Set(["lr-1e36.seed-8"]));
});

test("losses are means over the seeds", async () => {
  const both = (await search({ values: [0.01, 0.05], seeds: [8, 9] })).result;
  const single = await Promise.all([8, 9].map(async (seed) => (await search({ values: [0.01, 0.05], seeds: [seed] })).result));
  for (const [index, { losses }] of both.trials.entries()) {
    const [a, b] = single.map(({ trials }) => trials[index]?.losses[0] ?? NaN);
    expect(losses[0]).toBeCloseTo((a! + b!) / 2, 12);
  }
  expect(both.isAtEnd).toBe(true);
  expect(both.gridRounds).toBe(16);
});

test("wrong values and seeds are refused at once, before anything starts; so is training that diverges everywhere", async () => {
  const folder = await makeFolder();
  const start = (options: TuneOptions = {}) => search(options, folder);
  expect(await issuesOf(() => start({ values: [0.1, 0.1], seeds: [7, 8] }))).toEqual([
    issue("values", ["[0.1, 0.1]"]),
    issue("seeds", [7]),
  ]);
  expect(await issuesOf(() => start({ values: [-1] }))).toEqual([issue("fit.lr", [-1])]);
  expect(await readdir(folder)).toEqual([]);
  await expect(start({ values: [1e36, 1e37] })).rejects.toThrow(RunFailedError);
  await expect(start({ values: [1e36, 1e37] })).rejects.toThrow(/1e\+36: .*\n.*1e\+37: /);
  expect(await issuesOf(() => start({ jobs: 0 }))).toEqual([issue("jobs", [0])]);
  await mkdir(path.join(folder, "tiny-tune"), { recursive: true });
  await writeFile(path.join(folder, "tiny-tune", "run.json"), "{}");
  expect(await issuesOf(() => start())).toEqual([issue("name", [path.join(folder, "tiny-tune")])]);
});

test("by default five values around the run's own are tried", async () => {
  const { result } = await search({ values: undefined, rounds: 1 });
  expect(result.trials.map(({ lr }) => lr)).toEqual([0.25, 0.5, 1, 2, 4].map((factor) => factor * 3e-4));
  expect(result.rungs).toEqual([1]);
});

test("the end of the schedule keeps its ratio to the value, and a deadline does not count", async () => {
  const runsDir = await makeFolder();
  const fit = { localSteps: 2, lr: 0.01, lrSchedule: "cosine", minLr: 0.005 } as const;
  const { launcher, ...input } = tinyRun({ runsDir, name: "tiny", rounds: 2, seed: 7, fit, closing: { deadline: 0.001, quorum: 0.1 } });
  await tune(input, { launcher, grid: true });
  for (const factor of [0.25, 4]) {
    const folder = path.join(runsDir, "tiny-tune", `lr-${factor * 0.01}.seed-8`);
    const { config } = (await readRun(folder)).record as unknown as { config: { fit: { min_lr: number } } };
    expect(config.fit.min_lr).toBeCloseTo(factor * 0.005, 12);
    for (const { round, reported } of await readRounds(folder)) expect(reported).toHaveLength(round === 0 ? 0 : 8);
  }
});

test("a trial that fails says why, in its table and, if none is left, in the error", async () => {
  const runsDir = await makeFolder();
  const failing =
    (from: number): Selection =>
    ({ clients, round }) => {
      if (round >= from) throw new TypeError("boom");
      return clients.map(({ id }) => id);
    };
  const start = (from: number) => {
    const strategy = { selection: failing(from) };
    const { launcher, ...input } = tinyRun({ runsDir, name: `from-${from}`, rounds: 4, seed: 7, strategy });
    return tune(input, { launcher, values: [0.01, 0.05] });
  };
  await expect(start(1)).rejects.toThrow(/round 1:\n {2}0\.01: .*boom/);
  await expect(start(3)).rejects.toThrow(/round 4:\n {2}0\.0\d+: .*boom/);
  const result = {
    ...(await search({ values: [0.01] })).result,
    trials: [
      { lr: 0.01, losses: [1] },
      { lr: 0.1, losses: [null], failure: "boom\nat x" },
    ],
  };
  const told = tuneMarkdown(result);
  expect(told).toContain("| 0.1 | failed |");
  expect(told).toContain("- 0.1: boom\n");
});

test("a search by halving goes on as a whole grid", async () => {
  const runsDir = await makeFolder();
  const first = (await search({}, runsDir)).result;
  const started: string[] = [];
  const grid = (await search({ grid: true, onRun: ({ state, name }) => void (state === "started" && started.push(name)) }, runsDir)).result;
  expect(grid.chosen).toBe(first.chosen);
  // What had reached the end is kept.
  expect(started).toHaveLength(3);
});
