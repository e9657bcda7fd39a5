import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { compare } from "../../../src/compare/compare.ts";
import { loadComparison } from "../../../src/config/comparison.ts";
import { NOTHING_TRAINED } from "../../../src/records/metrics.ts";
import { createRunDirectory } from "../../../src/records/run-directory.ts";
import { issuesOf } from "../../support/config-issues.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-kept-"));
  writeFileSync(path.join(folder, "rows.jsonl"), '{"a":"x","b":"y"}\n');
  writeFileSync(
    path.join(folder, "setting.yaml"),
    `
rounds: 1
model: { name_or_path: some/model, task: causal-lm }
lora: { r: 2 }
data: { path: rows.jsonl, prompt: "{a}", answer: "{b}", clients: 2 }
strategy: { selection: { name: all }, rank_assignment: { name: list, ranks: [2, 1] }, aggregation: { name: segment-wise } }
`,
  );
  writeFileSync(
    path.join(folder, "comparison.yaml"),
    `
name: c
runs_dir: ${path.join(folder, "runs")}
setting: setting.yaml
seeds: [1]
budgets: [rounds]
reference: one
methods: [{ name: one }, { name: two, set: { fit.objective: none } }]
`,
  );
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A run with another config in a method's folder, with one committed round. */
async function makeRun(hasEnded: boolean, method = "one"): Promise<string> {
  const directory = await createRunDirectory({ runsDir: path.join(folder, "runs", "c"), name: `${method}.seed-1` });
  await directory.writeRecord({ name: `${method}.seed-1`, config: { rounds: 50 } });
  await directory.commitRound({ round: 0, global: [new Uint8Array(8)], state: {}, trained: NOTHING_TRAINED, clients: [], setAside: [] });
  if (hasEnded) directory.journal.append({ type: "end" });
  await directory.close();
  return directory.path;
}

const compareAll = async () => compare(await loadComparison(path.join(folder, "comparison.yaml")));

/** Names of all files, and the journal's bytes. */
const filesIn = (directory: string) => {
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" }).toSorted();
  return [names, readFileSync(path.join(directory, "journal.jsonl"), "utf8")];
};

/** The comparison refuses to replace this run. */
async function expectRefusal(directory: string, hasEnded: boolean): Promise<void> {
  const issues = await issuesOf(() => compareAll());
  expect(issues).toEqual([{ path: "name", message: expect.stringMatching(/--overwrite/) }]);
  expect(issues[0]?.message).toContain(directory);
  expect(issues[0]?.message.includes("finished")).toBe(hasEnded);
}

test.each([
  ["finished", true],
  ["unfinished", false],
])("a comparison refuses to replace a run with another config that is %s", async (_, hasEnded) => {
  const directory = await makeRun(hasEnded);
  const before = filesIn(directory);
  await expectRefusal(directory, hasEnded);
  expect(filesIn(directory)).toEqual(before);
});

test("a comparison refuses to replace a run with another config that lost its journal", async () => {
  const directory = await makeRun(true);
  rmSync(path.join(directory, "journal.jsonl"));
  const before = readdirSync(directory, { recursive: true });
  await expectRefusal(directory, false);
  expect(readdirSync(directory, { recursive: true })).toEqual(before);
});

test("a comparison reports every run with an unreadable record as failed, and changes none", async () => {
  const directories = [await makeRun(true, "one"), await makeRun(true, "two")];
  for (const directory of directories) {
    rmSync(path.join(directory, "run.json"));
    mkdirSync(path.join(directory, "run.json"));
  }
  const before = directories.map(filesIn);
  const { missing } = await compareAll();
  expect(missing).toEqual(["one", "two"].map((name) => expect.stringMatching(new RegExp(`^${name}\\.seed-1: .*run\\.json .*EISDIR`))));
  expect(directories.map(filesIn)).toEqual(before);
});
