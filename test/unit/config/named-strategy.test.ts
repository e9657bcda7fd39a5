import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { buildRun, describeConfig } from "../../../src/config/build.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { describeMethod } from "../../../src/config/method.ts";
import { issuesOf } from "../../support/config-issues.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-named-"));
  writeFileSync(path.join(folder, "words.jsonl"), "{}\n");
});
afterEach(() => rmSync(folder, { recursive: true }));

const REST = `rounds: 1
model: { name_or_path: prelort:all-MiniLM-L6-v2, task: sequence-classification }
lora: { r: 4 }
data: { path: words.jsonl, text: "{gloss}", label: topic, clients: 4 }
`;

function load(strategy: string, set: readonly string[] = []) {
  const file = path.join(folder, "run.yaml");
  writeFileSync(file, REST + strategy);
  return loadConfig(file, { set });
}

test("strategy: prelort is the paper's method as we read it, which its record says", async () => {
  const config = buildRun(await load("strategy: prelort\n"));
  const method = describeMethod(config);
  expect(method).toMatchObject({ name: "prelort", note: expect.stringMatching(/^Our reading of PreLort/) });
  const written = describeConfig(config);
  expect(written).toMatchObject({
    strategy: { rank_assignment: { name: "distribution", shape: "uniform" }, aggregation: { name: "segment-wise", weights: "examples" } },
    fit: { objective: "sum", full_weight: null },
  });
  expect(written["strategy"]).not.toHaveProperty("name");
  // On the command line too.
  expect(describeConfig(buildRun(await load("strategy: { aggregation: { name: flexlora } }\n", ["strategy=prelort"])))).toEqual(written);
});

test("assigned to a config, it keeps who trains at which rank, so that a comparison's methods have the same clients", async () => {
  const strategy = `strategy:
  selection: { name: random, fraction: 0.5 }
  rank_assignment: { name: list, ranks: [4, 2, 1, 1] }
  aggregation: { name: zero-pad-deltas }
  server_optimizer: { name: momentum }
`;
  expect((await load(strategy, ["strategy=prelort"])).strategy).toMatchObject({
    selection: { name: "random", fraction: 0.5 },
    rankAssignment: { name: "list", ranks: [4, 2, 1, 1] },
    aggregation: { name: "segment-wise" },
  });
  expect((await load(strategy, ["strategy=prelort"])).strategy).not.toHaveProperty("serverOptimizer");
});

test("an assignment may change one of its policies, as a comparison's methods do, and its name alone", async () => {
  const mine = ["strategy.aggregation={ name: flexlora }", "fit.objective=none"];
  for (const strategy of ["strategy: prelort\n", "strategy: { name: prelort }\n"]) {
    const config = await load(strategy, mine);
    expect(config.strategy).toMatchObject({ rankAssignment: { name: "distribution" }, aggregation: { name: "flexlora" } });
    expect(config.fit).toMatchObject({ objective: "none", fullWeight: null });
  }
  expect((await load("strategy: prelor\n", ["strategy=prelort"])).strategy.aggregation).toMatchObject({ name: "segment-wise" });
});

test("its name may stand beside other policies, and a fit's own options win", async () => {
  const strategy =
    "strategy: { name: prelort, rank_assignment: { name: list, ranks: [4, 2, 1, 1] }, selection: { name: random, fraction: 0.5 } }\n";
  const config = await load(`${strategy}fit: { objective: stratified, lr: 0.1 }\n`);
  expect(config.strategy).toMatchObject({
    selection: { name: "random" },
    rankAssignment: { name: "list" },
    aggregation: { name: "segment-wise" },
  });
  expect(config.fit).toMatchObject({ objective: "stratified", fullWeight: null, lr: 0.1 });
});

test.each([
  ["strategy: prelor\n", "strategy", /^must be prelort, the only strategy with a name.*got "prelor"$/, "5:11"],
  ["strategy: { name: flora }\n", "strategy.name", /such as \{ aggregation: \{ name: flora \} \}; got "flora"$/, "5:19"],
  [
    "strategy: { name: prelort, aggregation: { name: flora } }\n",
    "strategy.aggregation",
    /^is segment-wise in strategy.name: prelort; leave one of the two out$/,
    "5:28",
  ],
])("%s is refused where it stands", async (strategy, at, message, place) => {
  const issues = await issuesOf(() => load(strategy));
  expect(issues).toEqual([{ path: at, message: expect.stringMatching(message), location: `${path.join(folder, "run.yaml")}:${place}` }]);
});
