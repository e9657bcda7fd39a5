import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, it } from "vitest";
import { buildAggregation, validateRun } from "../../../src/config/build.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { aggregationSpec } from "../../../src/config/policy-specs.ts";
import { withServerOptimizer, withUpdateBound } from "../../../src/index.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { selfPruningRanks } from "../../../src/strategy/ranks/self-pruning.ts";
import { tinyRun } from "../../../src/testing/index.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const folder = mkdtempSync(path.join(tmpdir(), "prelort-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

const VALID = `rounds: 3
strategy:
  rank_assignment: { name: tiered, shares: { 8: 1 } }
model: { name_or_path: prelort:tiny, task: causal-lm }
lora: { r: 8, target_modules: all-linear }
data: { path: prelort:words, prompt: "{word}", answer: "{gloss}", clients: 4 }
`;

async function load(...set: readonly string[]) {
  const file = path.join(folder, "run.yaml");
  writeFileSync(file, VALID);
  return loadConfig(file, { set });
}

it("partial_sums: true stands for its defaults, false for sending every update", async () => {
  expect((await load("partial_sums=true")).partialSums).toEqual({ every: 8, encoding: "packed" });
  expect((await load("partial_sums={every: 3}")).partialSums).toEqual({ every: 3, encoding: "packed" });
  expect((await load()).partialSums).toBe(false);
});

it.each(aggregationSpec.options.map(({ shape }) => shape.name.value))(
  "partial sums are accepted with the aggregation %s exactly if it takes them",
  async (name) => {
    const spec = aggregationSpec.parse({ name });
    const needs = name === "fed-plora" ? ["fit.acting_tail=1"] : [];
    const loading = () => load("partial_sums=true", `strategy.aggregation={name: ${name}}`, ...needs);
    if (buildAggregation(spec).addsUp) expect((await loading()).partialSums).toBeTruthy();
    else expect(await issuesOf(loading)).toEqual([issue("partial_sums", [name], "--set partial_sums")]);
  },
);

it.each([
  ["median", "{name: segment-wise, robust: {name: median}}", false],
  ["trimmed-mean", "{name: segment-wise, robust: {name: trimmed-mean, trim: 0.1}}", false],
  ["multi-krum", "{name: segment-wise, robust: {name: multi-krum, malicious: 1}}", false],
  ["clip", "{name: segment-wise, robust: {name: clip, norm: 1}}", true],
])("partial sums with the robust rule %s are accepted only if it is a mean", async (name, spec, isMean) => {
  const loading = () => load("partial_sums=true", `strategy.aggregation=${spec}`, "data.clients=12");
  if (isMean) expect((await loading()).partialSums).toBeTruthy();
  else expect(await issuesOf(loading)).toContainEqual(issue("partial_sums", [name], "--set partial_sums"));
});

it("partial sums cannot be combined with recorded updates or ranks that follow from updates, all told at once", async () => {
  const ranks = "strategy.rank_assignment={name: self-pruning, ranks: [8, 8, 8, 8], penalty: 0.1}";
  expect(await issuesOf(() => load("partial_sums=true", "record_updates=true", ranks))).toEqual([
    issue("partial_sums", ["record_updates", "rank"], "--set partial_sums"),
  ]);
});

it("a program's own policies are checked likewise", async () => {
  const own = { begin: () => ({ add() {}, finish: () => expect.unreachable() }), distribute: () => expect.unreachable() };
  const run = (strategy: object) => () => {
    const { launcher: _, ...options } = tinyRun({ runsDir: folder, partialSums: true, strategy });
    return validateRun(options);
  };
  const needing = [own, { ...own, policy: { name: "fedit" } }, { ...segmentWise(), readsSpool: true }];
  for (const aggregation of needing) expect(await issuesOf(run({ aggregation }))).toEqual([issue("partialSums", ["aggregation"])]);
  const median = segmentWise({ robust: { name: "median" } });
  for (const aggregation of [median, withUpdateBound(median), withServerOptimizer(median, { name: "momentum" })])
    expect(await issuesOf(run({ aggregation }))).toEqual([issue("partialSums", ["median"])]);
  expect(
    await issuesOf(run({ rankAssignment: selfPruningRanks({ ranks: Array.from({ length: 8 }, () => 8), penalty: 0.1 }) })),
  ).toHaveLength(1);
  expect(run({ aggregation: segmentWise() })).not.toThrow();
});
