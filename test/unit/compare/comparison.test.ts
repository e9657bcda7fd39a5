import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { assignments, loadComparison } from "../../../src/config/comparison.ts";
import { ConfigError } from "../../../src/errors.ts";

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
    const error = await load(wrong).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(ConfigError);
    const messages = (error as ConfigError).issues.map(({ location, message }) => `${location?.split(":")[1]}: ${message}`);
    expect(messages).toEqual([
      "4: must not repeat, got [1, 1, 9]",
      "5: must not be one of seeds",
      '6: must be the name of one of the methods, got "Three"',
      "9: must differ from the others by more than its punctuation",
    ]);
  });

  it("is refused where folders would have no name, or the same", async () => {
    await expect(load(good.replace("name: Two, otherwise", "name: 方法"))).rejects.toThrow("must hold a letter from a to z");
    await expect(load(good.replace("family: second", "family: ALL"))).rejects.toThrow("differ from other families");
    await expect(load(good.replace("[0.001, 0.01]", "[0.01, 0.01]"))).rejects.toThrow("must not repeat");
  });

  it("is refused where a key is unknown or the file is not there", async () => {
    await expect(load(good.replace("seeds:", "seed:"))).rejects.toThrow("did you mean seeds?");
    await expect(loadComparison(path.join(folder, "none.yaml"))).rejects.toThrow("there is no such file");
  });
});
