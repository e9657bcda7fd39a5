import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, it } from "vitest";
import { buildRun, validateRun } from "../../../src/config/build.ts";
import { toFitSpec } from "../../../src/config/fit-spec.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { aggregationSpec } from "../../../src/config/policy-specs.ts";
import { type Aggregation, fLoRA, RunFailedError, segmentWise } from "../../../src/index.ts";
import { selfPruningRanks } from "../../../src/strategy/ranks/self-pruning.ts";
import { clientsOf, tinyRun } from "../../../src/testing/index.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const folder = mkdtempSync(path.join(tmpdir(), "prelort-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

const VALID = `rounds: 3
strategy:
  rank_assignment: { name: tiered, shares: { 8: 1 } }
model: { name_or_path: prelort:tiny, task: causal-lm }
lora: { r: 8, target_modules: all-linear }
data: { path: prelort:words, prompt: "{word}", answer: "{gloss}", clients: 4 }
fit:
  client_state: keep
`;

const file = path.join(folder, "run.yaml");
const at = (place: string) => `${file}:${place}`;

async function load(text = VALID, ...set: readonly string[]) {
  writeFileSync(file, text);
  return loadConfig(file, { set });
}

it("by default a client's optimizer is new, and keep is sent to workers as the config has it", async () => {
  const [client] = clientsOf([{ r: 8 }]);
  const sent = async (text: string) => toFitSpec(buildRun(await load(text)), 1, client!).client_state;
  expect(await sent(VALID)).toBe("keep");
  expect(await sent(VALID.replace("keep", "new"))).toBe("new");
  expect((await load(VALID.replace(/fit:[^]*/, ""))).fit.clientState).toBe("new");
});

/** Their components are factorised anew, reordered, or merged and drawn anew. */
const MOVING = ["fed-plora", "fedrora", "fedsvd", "flexlora", "flora", "hlora", "product-deltas", "raflora", "random-components"];

it.each(aggregationSpec.options.map(({ shape }) => shape.name.value))(
  "keep is accepted with the aggregation %s exactly if its components keep their meaning",
  async (name) => {
    const needs = name === "fed-plora" ? ["fit.acting_tail=1"] : [];
    const loading = () => load(VALID, `strategy.aggregation={name: ${name}}`, ...needs);
    if (!MOVING.includes(name)) expect((await loading()).fit.clientState).toBe("keep");
    else
      expect(await issuesOf(loading)).toEqual([
        issue("strategy.aggregation", ["fit.client_state", name, "meaning"], "--set strategy.aggregation"),
      ]);
  },
);

it("what keep cannot be combined with is told at once, with its place in the file", async () => {
  const text = `rounds: 3
strategy:
  rank_assignment: { name: self-pruning, ranks: [8, 8, 8, 8], penalty: 0.1 }
  aggregation: { name: flora }
model: { name_or_path: prelort:tiny, task: causal-lm }
lora: { r: 8, target_modules: all-linear }
data: { path: prelort:words, prompt: "{word}", answer: "{gloss}", clients: 4 }
fit: { client_state: keep, optimizer: adamw_8bit }
partial_sums: true
`;
  const problems = await issuesOf(() => load(text));
  expect(problems).toContainEqual(issue("strategy.rank_assignment", ["fit.client_state: keep", "self-pruning", "rank"], at("3:20")));
  expect(problems).toContainEqual(issue("strategy.aggregation", ["fit.client_state: keep", "flora", "meaning"], at("4:16")));
  expect(problems).toContainEqual(issue("fit.optimizer", ["bitsandbytes"], at("8:39")));
  expect(problems).toContainEqual(issue("partial_sums", ["fit.client_state: keep"], at("9:15")));
  const sgd = await issuesOf(() => load(VALID, "fit.optimizer=sgd"));
  expect(sgd).toEqual([issue("fit.client_state", ["sgd", "momentum"], at("8:17"))]);
  expect((await load(VALID, "fit.optimizer={name: sgd, momentum: 0.9}")).fit.clientState).toBe("keep");
});

it("a program's policies are refused alike, and one that asks for some components once it does", async () => {
  const run = (aggregation: Aggregation, rankAssignment = tinyRun({ runsDir: folder }).strategy.rankAssignment) => {
    const { launcher: _, ...options } = tinyRun({
      runsDir: folder,
      strategy: { aggregation, rankAssignment },
      fit: { clientState: "keep" },
    });
    return validateRun(options);
  };
  expect(await issuesOf(() => run(fLoRA()))).toEqual([issue("strategy.aggregation", ["flora"])]);
  const pruning = selfPruningRanks({ ranks: [8, 8, 8, 8, 4, 4, 2, 1], penalty: 0.1 });
  expect(await issuesOf(() => run(segmentWise(), pruning))).toEqual([issue("strategy.rankAssignment", ["self-pruning"])]);
  const [client] = clientsOf([{ r: 8 }]);
  const some: Aggregation = { ...segmentWise(), fitOptions: { components: [0, 1] } };
  expect(() => toFitSpec(run(some), 1, client!)).toThrow(RunFailedError);
});
