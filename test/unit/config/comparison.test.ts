import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assignments, loadComparison } from "../../../src/config/comparison.ts";
import { issuesOf } from "../../support/config-issues.ts";

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
  it("is read with its defaults, and its setting is found beside it", async () => {
    const comparison = await load(good);
    expect(comparison).toMatchObject({
      runsDir: "runs",
      setting: path.join(folder, "base.yaml"),
      methods: [{ family: "all", set: {} }, {}],
    });
  });

  it("gives a method's keys in the form of --set", async () => {
    const { methods } = await load(good);
    expect(assignments(methods[1]!).map(({ assignment }) => assignment)).toEqual([
      'fit.objective="none"',
      'strategy.rank_assignment={"name":"self-pruning","ranks":[2,1]}',
      'lora.target_modules=["query"]',
    ]);
  });

  it("removes a key that the setting has where a method gives it null, but for the weight that null stands for", () => {
    const set = { "strategy.server_optimizer": null, "fit.full_weight": null };
    expect(assignments({ name: "plain", family: "all", set }).map(({ assignment }) => assignment)).toEqual([
      "strategy.server_optimizer=",
      "fit.full_weight=null",
    ]);
  });

  it("reports everything that is wrong together, with its line", async () => {
    const wrong = good
      .replace("[1, 2]", "[1, 1, 9]")
      .replace("reference: One", "reference: Three")
      .replace("name: Two, otherwise", "name: ONE!");
    const issues = await issuesOf(() => load(wrong));
    expect(issues.map(({ path: key, location }) => `${location?.split(":")[1]} ${key}`)).toEqual([
      "4 seeds",
      "5 learning_rates.seed",
      "6 reference",
      "9 methods[1].name",
    ]);
    expect(issues[0]?.message).toContain("[1, 1, 9]");
    expect(issues[2]?.message).toContain('"Three"');
  });

  it.each([
    ["a method's name has no letter or digit for a folder's name", "name: Two, otherwise", "name: 方法", ["methods[1].name"]],
    ["two families' folders would have the same name", "family: second", "family: ALL", ["methods[0].family", "methods[1].family"]],
    ["a learning rate repeats", "[0.001, 0.01]", "[0.01, 0.01]", ["learning_rates.values"]],
    ["a method has a seed that the comparison lacks", "family: second", "seeds: [2, 3]", ["methods[1].seeds"]],
  ])("is refused if %s", async (_, old, replacement, keys) => {
    const issues = await issuesOf(() => load(good.replace(old, replacement)));
    expect(issues.map(({ path: key }) => key)).toEqual(keys);
  });

  it("is refused if it tunes a learning rate that every method sets", async () => {
    const one = good.replace("{ name: One }", "{ name: One, set: { fit.lr: 0.01 } }");
    await expect(load(one)).resolves.toBeDefined();
    const issues = await issuesOf(() => load(one.replace("fit.objective: none", "fit: { lr: 0.02 }")));
    expect(issues).toMatchObject([{ path: "learning_rates", message: expect.stringContaining("fit.lr") }]);
  });

  it("is refused with the nearest key if a key is unknown", async () => {
    const issues = await issuesOf(() => load(good.replace("seeds:", "seed:")));
    expect(issues.map(({ path: key }) => key)).toEqual(["seeds", "seed"]);
    expect(issues[1]?.message).toMatch(/\bseeds\b/);
  });

  it("is refused with its path if it is missing or a folder", async () => {
    const missing = path.join(folder, "none.yaml");
    expect(await issuesOf(() => loadComparison(missing))).toMatchObject([{ location: missing }]);
    expect(await issuesOf(() => loadComparison(folder))).toMatchObject([{ location: folder, message: expect.stringContaining("EISDIR") }]);
  });
});
