import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { compare } from "../../../src/compare/compare.ts";
import { loadComparison } from "../../../src/config/comparison.ts";
import { createRunDirectory } from "../../../src/records/run-directory.ts";

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

const trained = { coverage: [], fitLoss: null, reported: [], failed: [], late: [], passes: 0, bytesDown: 0, bytesUp: 0 };

/** A run of another config, where a method's run goes, with a committed round. */
async function makeRun(hasEnded: boolean, method = "one"): Promise<string> {
  const directory = await createRunDirectory({ runsDir: path.join(folder, "runs", "c"), name: `${method}.seed-1` });
  await directory.writeRecord({ name: `${method}.seed-1`, config: { rounds: 50 } });
  await directory.commitRound({ round: 0, global: [new Uint8Array(8)], state: {}, trained, clients: [], setAside: [] });
  if (hasEnded) directory.journal.append({ type: "end" });
  await directory.close();
  return directory.path;
}

const filesIn = (directory: string) => {
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" }).toSorted();
  return [names, readFileSync(path.join(directory, "journal.jsonl"), "utf8")];
};

test.each([
  ["finished", true, /holds a finished run of another config/],
  ["broken off", false, /holds a run of another config/],
])("a comparison does not replace a run of another config that was %s", async (_, hasEnded, message) => {
  const directory = await makeRun(hasEnded);
  const before = filesIn(directory);
  await expect(compare(await loadComparison(path.join(folder, "comparison.yaml")))).rejects.toThrow(message);
  expect(filesIn(directory)).toEqual(before);
});

test("nor one whose journal is gone", async () => {
  const directory = await makeRun(true);
  rmSync(path.join(directory, "journal.jsonl"));
  const before = readdirSync(directory, { recursive: true });
  await expect(compare(await loadComparison(path.join(folder, "comparison.yaml")))).rejects.toThrow(/holds a run of another config/);
  expect(readdirSync(directory, { recursive: true })).toEqual(before);
});

test("nor one whose record cannot be read", async () => {
  const directories = [await makeRun(true, "one"), await makeRun(true, "two")];
  for (const directory of directories) {
    rmSync(path.join(directory, "run.json"));
    mkdirSync(path.join(directory, "run.json"));
  }
  const before = directories.map(filesIn);
  const { missing } = await compare(await loadComparison(path.join(folder, "comparison.yaml")));
  expect(missing).toEqual(
    ["one", "two"].map((name) => expect.stringMatching(new RegExp(`^${name}.*run\\.json could not be read: EISDIR`))),
  );
  expect(directories.map(filesIn)).toEqual(before);
});

test("a comparison's file that is no file is told as such", async () => {
  await expect(loadComparison(folder)).rejects.toThrow(/the file cannot be read: EISDIR/);
  await expect(loadComparison(path.join(folder, "none.yaml"))).rejects.toThrow(/there is no such file/);
});
