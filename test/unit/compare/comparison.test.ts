import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assignments, loadComparison } from "../../../src/config/comparison.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(path.join(tmpdir(), "prelort-test-"))));
afterAll(() => rm(folder, { recursive: true, force: true }));

async function load(text: string) {
  const file = path.join(folder, "compare.yaml");
  await writeFile(file, text);
  return loadComparison(file);
}

const good = `
name: trial
setting: base.yaml
seeds: [1, 2]
learning_rates: { values: [0.001, 0.01], rounds: 2, seed: 9 }
reference: One
methods:
  - { name: One }
  - name: Two, otherwise
    family: second
    set: { fit.objective: none, strategy.rank_assignment: { name: self-pruning, ranks: [2, 1] }, lora.target_modules: [query] }
`;

describe("a comparison's file", () => {
  it("is read with its defaults, and its setting taken from beside it", async () => {
    const comparison = await load(good);
    expect(comparison).toMatchObject({
      runsDir: "runs",
      setting: path.join(folder, "base.yaml"),
      methods: [{ family: "all", set: {} }, {}],
    });
  });

  it("gives a method's keys as --set takes them", async () => {
    const { methods } = await load(good);
    expect(assignments(methods[1]!)).toEqual([
      'fit.objective="none"',
      'strategy.rank_assignment={"name":"self-pruning","ranks":[2,1]}',
      'lora.target_modules=["query"]',
    ]);
  });

  it("is refused with everything that is wrong, where it stands", async () => {
    const wrong = good
      .replace("[1, 2]", "[1, 1, 9]")
      .replace("reference: One", "reference: Three")
      .replace("name: Two, otherwise", "name: ONE!");
    const issues = await issuesOf(() => load(wrong));
    const located = issues.map((found) => ({ ...found, location: found.location?.split(":")[1] }));
    expect(located).toEqual([
      issue("seeds", ["[1, 1, 9]"], "4"),
      issue("learning_rates.seed", ["seeds", 9], "5"),
      issue("reference", ['"Three"'], "6"),
      issue("methods[1].name", ["punctuation"], "9"),
    ]);
  });

  it("is refused where folders would have no name, or the same", async () => {
    const pathsOf = async (text: string) => (await issuesOf(() => load(text))).map(({ path: key }) => key);
    expect(await pathsOf(good.replace("name: Two, otherwise", "name: 方法"))).toEqual(["methods[1].name"]);
    expect(await pathsOf(good.replace("family: second", "family: ALL"))).toEqual(["methods[0].family", "methods[1].family"]);
    expect(await pathsOf(good.replace("[0.001, 0.01]", "[0.01, 0.01]"))).toEqual(["learning_rates.values"]);
  });

  it("is refused where a key is unknown or the file is not there", async () => {
    expect(await issuesOf(() => load(good.replace("seeds:", "seed:")))).toContainEqual(issue("seed", ["seeds"], expect.any(String)));
    const missing = path.join(folder, "none.yaml");
    expect(await issuesOf(() => loadComparison(missing))).toEqual([issue("config", ["no such file"], missing)]);
  });
});
