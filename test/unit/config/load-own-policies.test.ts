import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { buildRun, describeConfig, describePolicyFiles, validateRun } from "../../../src/config/build.ts";
import { loadComparison } from "../../../src/config/comparison.ts";
import { loadConfig, openConfig, recordedConfig, withConfig } from "../../../src/config/load.ts";
import { describeDoubts, describeMethod } from "../../../src/config/method.ts";
import { configsOver } from "../../../src/compare/setting.ts";
import type { ConfigIssue } from "../../../src/errors.ts";
import { callPolicy, namePolicy } from "../../../src/strategy/call-policy.ts";
import type { SelectionContext } from "../../../src/strategy/strategy.ts";
import { clientsOf, layoutOf, roundContext } from "../../../src/testing/index.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

/* A process loads a file once, so each test has a folder of its own. */

let folder: string;
beforeEach(() => void (folder = mkdtempSync(path.join(tmpdir(), "prelort-own-"))));
afterEach(() => rmSync(folder, { recursive: true }));

const MODULE = `import { scale } from "./lib/scale.mjs";
export const first = ({ clients }) => [clients[0].id];
export const mean = { distribute: (global) => global, begin: () => ({ add() {}, finish: () => scale }) };
export const scaled = ({ beta, keepLast = 1 }) => ({ ...mean, present: (global) => ({ ...global, r: beta + keepLast }) });
export class Kept {
  #rank = 3;
  distribute(global) { return { ...global, r: this.#rank }; } distributeTo({ r }, { global }) { return { ...global, r: this.#rank + r }; }
  begin() { return this.#rank; } fitOptions() { return { lrB: this.#rank }; }
}
export const kept = new Kept();
export const bySize = Object.assign(({ size }) => (size > 1 ? 2 : 1), { fitOptions: { freezeA: true }, revise: () => 1 });
export const five = 5;
export const broken = () => { throw new TypeError("no beta"); };
export const late = async () => mean;
export const careless = { begin() {}, distribute: (global) => global.rows.subarray(0) };
`;

function write(name: string, text: string): string {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

function configWith(strategy: string): string {
  write("rows.jsonl", "");
  write("lib/scale.mjs", "export const scale = 2;\n");
  write("mine.mjs", MODULE);
  return write(
    "run.yaml",
    `rounds: 3
strategy:
${strategy.replace(/^/gm, "  ")}
model: { name_or_path: prelort:tiny, task: causal-lm }
lora: { r: 2, target_modules: all-linear }
data: { path: rows.jsonl, prompt: "{a}", answer: "{b}", clients: 2 }
`,
  );
}

const RANKS = "rank_assignment: { name: list, ranks: [2, 1] }";
const built = async (strategy: string) => buildRun(await loadConfig(configWith(strategy)));
const at = (name = "mine.mjs") => path.join(folder, name);

async function issuesIn(strategy: string): Promise<readonly ConfigIssue[]> {
  const file = configWith(strategy);
  const issues = await issuesOf(() => loadConfig(file));
  return issues.map((found) => ({ ...found, location: String(found.location).replace(`${file}:`, "") }));
}

describe("a policy of one's own in a config", () => {
  test("is the file's export, called with its own this, and the file is relative to the config", async () => {
    const { strategy } = await built("selection: ./mine.mjs#first\nrank_assignment: ./mine.mjs#bySize\naggregation: ./mine.mjs#kept");
    expect(await strategy.selection({ clients: clientsOf([{ size: 1, r: 1 }]) } as unknown as SelectionContext)).toEqual(["c0"]);
    const { rankAssignment, aggregation } = strategy;
    expect(rankAssignment({ size: 9 } as never, {} as never)).toBe(2);
    expect(rankAssignment.fitOptions).toEqual({ freezeA: true });
    expect(rankAssignment.revise?.({} as never, {} as never, {} as never)).toBe(1);
    const context = roundContext(layoutOf({ tiers: [1, 2] }), clientsOf([{ size: 1, r: 1 }]));
    expect(aggregation.begin(context)).toBe(3);
    expect(aggregation.distribute(context.global, context.layout, 1).r).toBe(3);
    expect(aggregation.distributeTo?.(context.clients[0]!, context).r).toBe(4);
    expect("present" in aggregation).toBe(false);
    const { fitOptions } = aggregation;
    expect(typeof fitOptions === "function" && fitOptions({} as never, {} as never)).toEqual({ lrB: 3 });
  });

  test("is made by the export from the options of a map, in camelCase", async () => {
    const { strategy } = await built(`${RANKS}\naggregation: { module: ./mine.mjs#scaled, beta: 4, keep_last: 2 }`);
    expect(strategy.aggregation.present?.({} as never, {} as never).r).toBe(6);
    const plain = await built(`${RANKS}\naggregation: { module: ./mine.mjs#scaled, beta: 4 }`);
    expect(plain.strategy.aggregation.present?.({} as never, {} as never).r).toBe(5);
  });

  test("is recorded by file, options and SHA-256, also of what the file imports, and the record makes the same config", async () => {
    const run = await built(
      `${RANKS}\nselection: ./mine.mjs#first\naggregation: { module: ./mine.mjs#scaled, beta: 4, keep_last: [1], name: x }`,
    );
    const recorded = JSON.parse(JSON.stringify(describeConfig(run))) as { readonly strategy: object };
    expect(recorded.strategy).toEqual({
      selection: `${at()}#first`,
      rank_assignment: { name: "list", ranks: [2, 1] },
      aggregation: { module: `${at()}#scaled`, beta: 4, keep_last: [1], name: "x" },
    });
    const files = { "lib/scale.mjs": expect.stringMatching(/^[0-9a-f]{64}$/), "mine.mjs": expect.stringMatching(/^[0-9a-f]{64}$/) };
    expect(describePolicyFiles(run)).toEqual({ selection: files, aggregation: files });
    const again = recordedConfig(recorded, "run.json", { inScript: "" });
    expect(again.strategy.aggregation).toEqual({ module: `${at()}#scaled`, options: { beta: 4, keepLast: [1], name: "x" } });
    expect(describePolicyFiles(await built(RANKS))).toBeUndefined();
  });

  test("is named in errors, the method's name and the doubts", async () => {
    const run = await built(`${RANKS}\naggregation: ./mine.mjs#mean\nserver_optimizer: { name: momentum }`);
    const { aggregation } = run.strategy;
    expect(namePolicy("aggregation", aggregation)).toBe("the aggregation mine.mjs#mean");
    expect(describeMethod(run).name).toMatch(/^mine\.mjs#mean, server momentum \+/);
    expect(describeDoubts(run)).toEqual([expect.stringContaining("strategy.aggregation: your own code")]);
    expect(describeConfig(run)["strategy"]).toMatchObject({
      aggregation: `${at()}#mean`,
      server_optimizer: { name: "momentum", momentum: 0.9 },
    });
    const fails = () =>
      callPolicy(namePolicy("aggregation", aggregation), () => aggregation.begin(undefined as never).add(undefined as never));
    expect(fails).not.toThrow();
  });

  test("takes partial sums if it says so, which is known once its code has run", async () => {
    write("adds.mjs", "export const adds = { addsUp: true, distribute() {}, begin() {} };\n");
    const run = await built(`${RANKS}\naggregation: ./adds.mjs#adds`);
    expect(validateRun({ ...run, partialSums: true }).strategy.aggregation.addsUp).toBe(true);
    const other = await built(`${RANKS}\naggregation: ./mine.mjs#mean`);
    expect(await issuesOf(() => validateRun({ ...other, partialSums: true }))).toEqual([issue("partialSums", ["mine.mjs#mean"])]);
  });

  test("of a script's config that was not loaded is refused", async () => {
    const { config } = await openConfig(configWith(`${RANKS}\naggregation: ./mine.mjs#mean`));
    expect(await issuesOf(() => buildRun(config))).toEqual([issue("strategy.aggregation", [`${at()}#mean`, "loadConfig"])]);
  });
});

describe("what is wrong with a policy's file is reported where the config names it:", () => {
  test.each<[what: string, strategy: string, key: string, facts: readonly string[], place: string]>([
    ["there is no such file", "aggregation: ./mime.mjs#mean", "aggregation", ["no such file", "did you mean ./mine.mjs#mean?"], "4:16"],
    ["it has no such export", "aggregation: ./mine.mjs#maen", "aggregation", ["no export maen", "did you mean mean?"], "4:16"],
    [
      "an export is missing in a map",
      "aggregation: { module: ./mine.mjs#nothing }",
      "aggregation.module",
      ["no export nothing", "first"],
      "4:26",
    ],
    ["the export is no aggregation", "aggregation: ./mine.mjs#five", "aggregation", ["a number", "begin and distribute"], "4:16"],
    ["the export makes one", "aggregation: ./mine.mjs#scaled", "aggregation", ["a function", "{ module: ./mine.mjs#scaled }"], "4:16"],
    [
      "the export takes no options",
      "aggregation: { module: ./mine.mjs#mean, beta: 1 }",
      "aggregation.module",
      ["an object", "function"],
      "4:26",
    ],
    ["the export is no selection", "selection: ./mine.mjs#five", "selection", ["a number", "a selection"], "4:14"],
    [
      "it returns another thing",
      "aggregation: { module: ./mine.mjs#first, clients: [{ id: 1 }] }",
      "aggregation.module",
      ["a list"],
      "4:26",
    ],
    ["it returns a promise", "aggregation: { module: ./mine.mjs#late }", "aggregation.module", ["a promise"], "4:26"],
    ["it throws", "aggregation: { module: ./mine.mjs#broken }", "aggregation.module", ["TypeError: no beta", "line 13"], "4:26"],
    ["no export is named", "aggregation: ./mine.mjs", "aggregation", ["./mine.mjs#name", '"./mine.mjs"'], "4:16"],
    ["no export follows the #", "aggregation: { module: ./mine.mjs# }", "aggregation.module", ["./mine.mjs#name"], "4:26"],
    ["an option is no JSON", "aggregation: { module: ./mine.mjs#scaled, beta: .inf }", "aggregation.beta", ["JSON"], "4:51"],
  ])("%s", async (_, strategy, key, facts, place) => {
    expect(await issuesIn(`${RANKS}\n${strategy}`)).toEqual([issue(`strategy.${key}`, facts, place)]);
  });

  test("the file itself throws, has an error of syntax, or imports what is not there", async () => {
    write("throws.mjs", "\nthrow new Error('too early');\n");
    write("syntax.mjs", "export const = 3;\n");
    write("imports.mjs", 'import "./missing.mjs";\n');
    expect(await issuesIn("selection: ./throws.mjs#a\nrank_assignment: ./syntax.mjs#a\naggregation: ./imports.mjs#a")).toEqual([
      issue("strategy.selection", ["./throws.mjs cannot be loaded", "too early", "line 2"], "3:14"),
      issue("strategy.rank_assignment", ["./syntax.mjs cannot be loaded"], "4:20"),
      issue("strategy.aggregation", ["./imports.mjs cannot be loaded"], "5:16"),
    ]);
  });

  test("no code runs if anything else in the config is wrong", async () => {
    const marks = globalThis as { ranOwnPolicy?: boolean };
    write("marks.mjs", "globalThis.ranOwnPolicy = true;\nexport const a = () => [];\n");
    expect(await issuesIn(`rank_assignment: { name: list, ranks: [4, 2] }\nselection: ./marks.mjs#a`)).toEqual([
      issue("strategy.rank_assignment.ranks[0]", [4, 2], "3:42"),
    ]);
    expect(marks.ranOwnPolicy).toBeUndefined();
    await loadConfig(configWith(`${RANKS}\nselection: ./marks.mjs#a`));
    expect(marks.ranOwnPolicy).toBe(true);
    delete marks.ranOwnPolicy;
  });

  test("the names of built-in policies are still suggested", async () => {
    expect(await issuesIn(`${RANKS}\naggregation: flora`)).toEqual([
      issue("strategy.aggregation", ["did you mean { name: flora }?"], "4:16"),
    ]);
    expect(await issuesIn(`${RANKS}\naggregation: { name: flroa }\nselection: { name: random, fractoin: 1 }`)).toEqual([
      issue("strategy.aggregation.name", ["did you mean flora?"], "4:24"),
      issue("strategy.selection.fraction", ["is needed"], "5:3"),
      issue("strategy.selection.fractoin", ["did you mean fraction?"], "5:30"),
    ]);
  });
});

describe("a comparison's methods", () => {
  const comparison = (set: string) =>
    write(
      "methods/compare.yaml",
      `name: c\nsetting: ../run.yaml\nseeds: [1]\nreference: a\nmethods:\n  - { name: a }\n  - { name: b, set: ${set} }\n`,
    );

  test("have policies relative to the comparison's file, as the setting has to its own", async () => {
    configWith(`${RANKS}\naggregation: ./mine.mjs#mean`);
    write("methods/other.mjs", "export const other = { distribute() {}, begin() {} };\n");
    const read = await loadComparison(comparison("{ strategy.aggregation: ./other.mjs#other }"));
    const [a, b] = await Promise.all(read.methods.map((method) => configsOver(read)(method, ["name=x"])));
    expect(a?.strategy.aggregation.policy?.module).toBe(`${at()}#mean`);
    expect(b?.strategy.aggregation.policy?.module).toBe(`${at("methods/other.mjs")}#other`);
  });

  test("and what is wrong with them is reported at the comparison's file", async () => {
    configWith(RANKS);
    const file = comparison("{ strategy.aggregation: ./other.mjs#other, fit.lr: -1 }");
    const read = await loadComparison(file);
    const issues = await issuesOf(() => configsOver(read)(read.methods[1]!, []));
    expect(issues.map(({ path: key, location }) => [key, location])).toEqual([
      ["fit.lr", `${file}:7:72`],
      ["strategy.aggregation", `${file}:7:45`],
    ]);
    write("methods/other.mjs", "export const another = 1;\n");
    const loose = await loadComparison(comparison("{ strategy.aggregation: ./other.mjs#other }"));
    expect(await issuesOf(() => configsOver(loose)(loose.methods[1]!, []))).toEqual([
      issue("strategy.aggregation", ["./other.mjs has no export other", "another"], `${file}:7:45`),
    ]);
  });

  test("are not loaded by a reader that only opens the config", async () => {
    const loaded = await openConfig(configWith(`${RANKS}\naggregation: ./mine.mjs#maen`));
    expect(loaded.config.strategy.aggregation).toEqual({ module: `${at()}#maen` });
    expect(await issuesOf(() => withConfig(loaded, async () => undefined))).toHaveLength(1);
  });
});
