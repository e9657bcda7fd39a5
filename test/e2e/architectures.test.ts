import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  exportRun,
  federate,
  type FederateOptions,
  listRanks,
  randomSelection,
  segmentWise,
  withServerOptimizer,
  zeroPadDeltas,
} from "../../src/index.ts";
import { python, root, temporaryFolder, tiny } from "../support/e2e.ts";
import { sharedWorkers } from "../support/shared-workers.ts";

// Every supported architecture as a tiny seeded model, trained by real workers: two clients of ranks 4 and 2.

const folder = temporaryFolder();
const environment = { ...process.env, HF_HUB_OFFLINE: "1", OMP_NUM_THREADS: "2" };

interface Comparison {
  readonly warnings: readonly string[];
  readonly [tier: string]: { readonly difference: number; readonly moved: number } | readonly string[];
}

interface Case {
  readonly name: string;
  /** PEFT's default when omitted. */
  readonly targets?: FederateOptions["lora"]["target_modules"];
  readonly fit?: FederateOptions["fit"];
  readonly model?: Partial<FederateOptions["model"]>;
  readonly data?: Partial<FederateOptions["data"]>;
  /** Last part of each adapted module's name. */
  readonly adapted: readonly string[];
  /** A name that the run's record lists as left out. */
  readonly leftOut?: RegExp;
}

const languageData = () => ({ path: tiny("words.jsonl"), prompt: "Define the noun {word} .", answer: "{gloss}", maxLength: 32 });
/** Models that are also exported merged. */
const WHOLE = ["gpt2", "t5", "vit"];
const PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj"];
const cases: readonly Case[] = [
  { name: "llama", targets: "all-linear", adapted: [...PROJECTIONS, "gate_proj", "up_proj", "down_proj"], data: { packing: true } },
  { name: "llama-tied", targets: ["q_proj", "down_proj"], adapted: ["q_proj", "down_proj"] },
  { name: "qwen2", adapted: ["q_proj", "v_proj"], fit: { objective: "sum" } },
  { name: "qwen3", targets: "all-linear", adapted: [...PROJECTIONS, "gate_proj", "up_proj", "down_proj"], data: { packing: true } },
  { name: "mistral", targets: String.raw`.*layers\.\d+\.self_attn\.[kv]_proj`, adapted: ["k_proj", "v_proj"], model: { dtype: "bf16" } },
  { name: "mixtral", targets: "all-linear", adapted: PROJECTIONS, leftOut: /experts\.(gate_up|down)_proj/ },
  {
    name: "gemma2",
    targets: "all-linear",
    adapted: [...PROJECTIONS, "gate_proj", "up_proj", "down_proj"],
    fit: { gradientCheckpointing: true },
  },
  { name: "phi", adapted: ["q_proj", "v_proj", "fc1", "fc2"] },
  { name: "phi3", targets: "all-linear", adapted: ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"] },
  { name: "gpt2", targets: "all-linear", adapted: ["c_attn", "c_proj", "c_fc"], data: { packing: true } },
  { name: "bert", adapted: ["query", "value"], model: { task: "sequence-classification" } },
  {
    name: "roberta",
    targets: "all-linear",
    adapted: ["query", "key", "value", "dense"],
    model: { task: "sequence-classification" },
    fit: { localSteps: 12, lr: 0.01 },
  },
  { name: "t5", targets: "all-linear", adapted: ["q", "k", "v", "o", "wi", "wo"], model: { task: "seq2seq-lm" } },
  { name: "vit", targets: "all-linear", adapted: [...PROJECTIONS, "fc1", "fc2"], model: { task: "image-classification" } },
];

/** With workers of its own, as many as `count`, or on the one of the pool. */
async function train({ name, targets, fit, model, data }: Case, count?: number) {
  const task = model?.task ?? "causal-lm";
  const examples = {
    "causal-lm": languageData(),
    "seq2seq-lm": languageData(),
    "sequence-classification": { path: tiny("topics.jsonl"), text: "{text}", label: "topic" },
    "image-classification": { path: path.join(folder(), "models/pictures"), label: "folder" },
  }[task as "causal-lm"];
  const { result } = federate({
    name: count === undefined ? name : `${name}-${count}`,
    runsDir: path.join(folder(), "runs"),
    seed: 3,
    rounds: 2,
    model: { nameOrPath: path.join(folder(), "models", name), task: "causal-lm", ...model },
    lora: { r: 4, tiers: [1, 2, 4], ...(targets && { target_modules: targets }) },
    data: { ...examples, evalExamples: 16, clients: 2, ...data },
    strategy: {
      selection: randomSelection({ fraction: 1 }),
      rankAssignment: listRanks([4, 2]),
      aggregation: name === "gpt2" ? withServerOptimizer(zeroPadDeltas(), { name: "momentum", momentum: 0.5 }) : segmentWise(),
    },
    fit: { localSteps: 6, batchSize: 8, lr: 0.02, ...fit },
    ...(count === undefined ? { pool: pool() } : { workers: { count } }),
  });
  return result;
}

const pool = sharedWorkers();

describe("models of transformers", () => {
  const runs = () => cases.map(({ name }) => path.join(folder(), "runs", name));
  let compared: Readonly<Record<string, Comparison>> = {};
  beforeAll(() => {
    execFileSync(python, [path.join(root, "test/fixtures/architectures.py"), path.join(folder(), "models")], { env: environment });
  });

  test.each(cases)("$name learns at every tier", async (each) => {
    const { metrics, layout, directory } = await train(each);
    const adapted = new Set(layout.modules.map(({ name }) => name.split(".").at(-1)));
    expect(adapted).toEqual(new Set(each.adapted));
    const [before, after] = [metrics[0]!, metrics.at(-1)!];
    for (const [index, tier] of after.byTier.entries()) expect(tier.loss, `tier ${tier.r}`).toBeLessThan(before.byTier[index]!.loss!);
    expect(after.energy.every(({ energy }) => energy > 0)).toBe(true);
    const record = JSON.parse(readFileSync(path.join(directory, "run.json"), "utf8")) as { left_out: readonly { name: string }[] };
    if (each.leftOut) expect(record.left_out.map(({ name }) => name)).toContainEqual(expect.stringMatching(each.leftOut));
  });

  test("training does not update a frozen MobileViT's running statistics, so metrics do not depend on the number of workers", async () => {
    // The stratified objective needs one row per example, but MobileViT's modules see patches.
    const seeing: Case = {
      name: "mobilevit",
      targets: ["query", "value"],
      adapted: [],
      model: { task: "image-classification" },
      fit: { objective: "sum" },
    };
    const metricsWith = async (count?: number) => readFileSync(path.join((await train(seeing, count)).directory, "metrics.jsonl"), "utf8");
    const alone = await metricsWith();
    expect(alone.trimEnd().split("\n")).toHaveLength(3);
    expect(await metricsWith(2)).toBe(alone);
  });

  test.each(WHOLE)("%s is exported merged at a rank that is not a tier", async (name) => {
    const { remarks } = await exportRun(path.join(folder(), "runs", name), {
      r: 3,
      merge: true,
      out: path.join(folder(), `${name}-merged`),
    });
    expect(remarks).toEqual([]);
  });

  test("PEFT loads every tier of every model and computes the logits of weights merged by hand", () => {
    const script = path.join(root, "test/e2e/compare_architectures.py");
    compared = JSON.parse(
      execFileSync(python, [script, ...runs()], { env: environment, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }),
    ) as typeof compared;
    for (const { name, model } of cases) {
      const { warnings, whole, ...tiers } = compared[name]!;
      expect(warnings, name).toEqual([]);
      if (WHOLE.includes(name)) expect((whole as { difference: number }).difference, name).toBeLessThan(2e-5);
      expect(Object.keys(tiers), name).toEqual(["1", "2", "4"]);
      for (const [tier, found] of Object.entries(tiers)) {
        const { difference, moved } = found as { difference: number; moved: number };
        expect(difference, `${name}, tier ${tier}`).toBeLessThan(model?.dtype === "bf16" ? 1e-4 : 2e-5);
        expect(moved, `${name}, tier ${tier}`).toBeGreaterThan(1e-3);
      }
    }
  });
});
