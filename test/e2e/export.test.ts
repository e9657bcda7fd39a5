import { execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import { beforeAll, describe, expect, test, vi } from "vitest";
import {
  federate,
  type FederateOptions,
  fLoRA,
  listRanks,
  type RunEvent,
  type RunResult,
  stratifiedSelection,
  verifyRun,
} from "../../src/index.ts";
import { writeAdapterFolder } from "../../src/artifacts/peft-folder.ts";
import { loadConfig } from "../../src/config/load.ts";
import { decodeSafetensors } from "../../src/tensor/safetensors.ts";
import { readSource } from "../../src/artifacts/init-source.ts";
import { readTrained } from "../../src/artifacts/load-trained.ts";
import { startFrom } from "../../src/artifacts/init-adapter.ts";
import { initialAdapter } from "../../src/adapter/initialise.ts";
import { cli, python, readLines, root, temporaryFolder, tiny, tinyRun } from "../support/e2e.ts";
import { exportLoader } from "../support/export-loader.ts";
import { PATIENCE_MS } from "../support/patience.ts";
import { onPool, sharedWorkers } from "../support/shared-workers.ts";

const folder = temporaryFolder();
const pool = sharedWorkers();
const at = (...parts: string[]) => path.join(folder(), ...parts);

const loader = exportLoader();

/** Largest difference of each model's logits from the first one's. */
const apart = async (folders: Readonly<Record<string, string>>) => (await loader().ask("compare", folders)) as Record<string, number>;

function exported(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, "export", ...args], { cwd: folder(), encoding: "utf8" });
  expect(stderr, stderr).toBe("");
  expect(status).toBe(0);
  return stdout;
}

/** A mean-pooled classifier of topics. */
function classifierRun(name: string, more: Partial<FederateOptions["lora"]> = {}): FederateOptions {
  const base = onPool(tinyRun(folder(), name), pool());
  return {
    ...base,
    rounds: 1,
    model: { nameOrPath: tiny("tiny-bert"), task: "sequence-classification", pooling: "mean" },
    lora: { r: 8, tiers: [1, 2, 4, 8], target_modules: ["query", "value"], ...more },
    data: { path: tiny("topics.jsonl"), text: "{text}", label: "topic", maxLength: 32, evalExamples: 24, clients: 4 },
    fit: { localSteps: 6, batchSize: 8, lr: 0.02 },
  };
}

let language: RunResult;
let classifier: RunResult;
beforeAll(async () => {
  const options = onPool(tinyRun(folder(), "language"), pool());
  language = await federate({ ...options, strategy: { ...options.strategy, aggregation: fLoRA() } }).result;
  classifier = await federate(classifierRun("classifier")).result;
});

test("PEFT loads every saved tier and computes the worker's logits", async () => {
  const { directory } = await federate(onPool(tinyRun(folder(), "tiers"), pool())).result;
  const compared = await loader().ask("compare_tiers", directory, tiny("tiny-llama"));
  const differences = compared as Record<string, { difference: number; moved: number }>;
  expect(Object.keys(differences)).toEqual(["1", "2", "4", "8"]);
  for (const [r, { difference, moved }] of Object.entries(differences)) {
    expect(difference, `largest difference of a logit at rank ${r}`).toBeLessThan(1e-5);
    expect(moved, `the adapter of rank ${r} moves the base model's logits`).toBeGreaterThan(1e-3);
  }
});

test("a language model is exported as a PEFT adapter, merged at that rank, and merged in full", async () => {
  expect(exported("language", "--r", "3")).toMatch(/^.*\blanguage\b.*\b2\b.*\b3\b.*\bf32\b.*\blanguage-r3\n$/);
  exported("language", "--merge", "--r", "3", "--out", "three");
  const { three, base } = (await apart({ peft: at("language-r3"), three: at("three"), base: tiny("tiny-llama") })) as never;
  expect(three).toBeLessThan(1e-5);
  expect(base).toBeGreaterThan(1e-3);

  exported("language", "--merge", "--out", "all", "--dtype", "f32");
  const whole = await apart({ hand: at("language/rounds/2"), all: at("all"), three: at("three") });
  expect(whole["all"]).toBeLessThan(1e-5);
  // What the SVD at rank 3 leaves out.
  expect(whole["three"]).toBeGreaterThan(1e-4);
});

test("a card tells what an export is, holds no path of this machine, and its code loads the adapter and cuts it", async () => {
  exported("classifier", "--out", "shared", "--card", "--license", "apache-2.0", "--base-model", "org/tiny-bert");
  exported("classifier", "--out", "four", "--r", "4");
  const card = readFileSync(at("shared/README.md"), "utf8");
  const front = parse(card.split("---\n")[1] ?? "") as unknown;
  expect(front).toMatchObject({
    license: "apache-2.0",
    library_name: "peft",
    base_model: "org/tiny-bert",
    pipeline_tag: "text-classification",
  });
  const last = classifier.metrics.at(-1)!;
  for (const { r, accuracy, intervals } of last.byTier) {
    const [low, high] = Object.values(intervals!.find(({ name }) => name === "accuracy")!).slice(1) as number[];
    const shown = [accuracy!, low!, high!].map((share) => (100 * share).toFixed(1));
    expect(card).toContain(`| ${r} | ${shown[0]} % (${shown[1]} % to ${shown[2]} %) |`);
  }
  expect(card).toMatch(/^- this adapter: apache-2\.0$/m);
  expect(card).toMatch(/^- the data, topics\.jsonl: not stated/m);
  const text = readFileSync(at("shared/prelort.config.json"), "utf8");
  expect(card + text).not.toContain(folder());
  expect(card + text).not.toContain(path.dirname(tiny("tiny-bert")));
  // The config, beside the data and the base, is the run's.
  for (const name of ["tiny-bert", "topics.jsonl"]) cpSync(tiny(name), at("shared", name), { recursive: true });
  const config = await loadConfig(at("shared/prelort.config.json"));
  expect(config).toMatchObject({
    name: "classifier",
    rounds: 1,
    model: { nameOrPath: at("shared/tiny-bert") },
    fit: { localSteps: 6, lr: 0.02 },
  });

  const [load = "", cut = ""] = [...card.matchAll(/```python\n(.*?)```/gs)].map(([, code]) => code);
  const filled = (code: string) =>
    code
      .replace("org/tiny-bert", tiny("tiny-bert"))
      .replace("path/or/name of this adapter", at("shared"))
      .replace("path of this adapter", at("shared"));
  const env = { ...process.env, PYTHONPATH: path.join(root, "workers") };
  const told = "print(model.peft_config['default'].r, model.base_model.model.classifier.original_module.out_features, len(labels))";
  const code = `${filled(load)}\n${filled(cut)}\n${told}\n`;
  expect(execFileSync(python, ["-c", code], { cwd: folder(), env, encoding: "utf8" }).trim()).toBe("8 4 4");
  const tensorsIn = (name: string) => decodeSafetensors(readFileSync(at(name, "adapter_model.safetensors"))).tensors;
  expect(new Map(tensorsIn("smaller"))).toEqual(new Map(tensorsIn("four")));
  const settingsIn = (name: string) => JSON.parse(readFileSync(at(name, "adapter_config.json"), "utf8")) as object;
  expect(settingsIn("smaller")).toEqual({ ...settingsIn("four"), base_model_name_or_path: "org/tiny-bert" });
});

test("a licence without a card is refused", () => {
  const { status, stderr } = spawnSync(process.execPath, [cli, "export", "classifier", "--license", "mit"], {
    cwd: folder(),
    encoding: "utf8",
  });
  expect([status, stderr]).toEqual([2, expect.stringMatching(/\blicense\b.*--card/)]);
  expect(existsSync(at("classifier-r8"))).toBe(false);
});

test("a classifier's head is trained, averaged and saved with its adapter", async () => {
  const base = onPool(tinyRun(folder(), "head"), pool());
  const result = await federate({
    ...base,
    model: { nameOrPath: tiny("tiny-bert"), task: "sequence-classification" },
    lora: { r: 4, target_modules: ["query", "value"] },
    data: {
      path: tiny("topics.jsonl"),
      text: "{text}",
      label: "topic",
      evalExamples: 24,
      clients: 4,
      partition: { name: "dirichlet", by: "topic", alpha: 0.5, minExamples: 4 },
    },
    strategy: { ...base.strategy, rankAssignment: listRanks([4, 2, 1, 1]), selection: stratifiedSelection({ fraction: 0.75 }) },
    rounds: 3,
    fit: { localSteps: 15, batchSize: 8, lr: 0.01, headLr: 0.05 },
  }).result;
  const [first, last] = [result.metrics[0], result.metrics.at(-1)];
  for (const [tier, { r, accuracy }] of (last?.byTier ?? []).entries()) {
    expect(accuracy, `accuracy at rank ${r}`).toBeGreaterThan(first?.byTier[tier]?.accuracy as number);
  }
  expect(last?.coverage.every(({ clients }) => clients > 0)).toBe(true);
  // The figures are those of the examples: the matrix has them all, and its diagonal is what the accuracy counts.
  expect(last?.confusion?.map(({ r }) => r)).toEqual([1, 4]);
  for (const { r, cells } of last?.confusion ?? []) {
    const count = (counts: (label: number, predicted: number) => boolean) =>
      cells.reduce((sum, [label, predicted, examples]) => sum + (counts(label, predicted) ? examples : 0), 0);
    expect(count(() => true)).toBe(24);
    const tier = last?.byTier.find((metrics) => metrics.r === r);
    expect(tier?.accuracy).toBe(count((label, predicted) => label === predicted) / 24);
    expect(tier?.ece).toBeGreaterThan(0);
    expect(tier?.intervals?.map(({ name }) => name)).toEqual(["loss", "accuracy", "macro_f1", "ece"]);
  }
  expect(JSON.parse(JSON.stringify(readLines(result.directory, "metrics.jsonl").at(-1)))).toMatchObject({
    by_tier: last?.byTier.map(({ accuracy, ece, intervals }) => ({ accuracy, ece, intervals })),
    confusion: last?.confusion,
  });
  await result.savePretrained(at("one-more"), { r: 3 });
  expect(JSON.parse(readFileSync(at("one-more/adapter_config.json"), "utf8"))).toMatchObject({ r: 3, lora_alpha: 6 });
  await expect(result.savePretrained(at("one-more"), { r: 5 })).rejects.toMatchObject({
    issues: [{ path: "r", message: expect.stringMatching(/\b1\b.*\b4\b.*\b5$/) }],
  });
  expect(existsSync(at("one-more/adapter_model.safetensors"))).toBe(true);
});

test("a classifier is exported with its head and labels, and with a note for each loader that cannot load a head", async () => {
  const output = exported("classifier", "--r", "4", "--out", "peft");
  expect(output).toMatch(/^.*\bclassifier\b.*\b1\b.*\b4\b.*\bf32\b.*\bpeft\n.*\bvLLM\b.*\n.*\bllama\.cpp\b/);
  expect(exported("classifier", "--r", "4", "--merge", "--out", "whole")).toMatch(
    /^.*\bclassifier\b.*\bwhole\n.*prelort_worker\.models\.MeanPooledClassifier\.from_pretrained\("whole"\)\n$/,
  );
  expect((await apart({ peft: at("peft"), whole: at("whole") }))["whole"]).toBeLessThan(1e-5);
  expect(await loader().ask("labels", at("whole"))).toEqual({ 0: "animal", 1: "food", 2: "tool", 3: "weather" });
  expect(readdirSync(at("whole"))).toEqual(expect.arrayContaining(["config.json", "model.safetensors", "tokenizer.json", "prelort.json"]));
});

test("savePretrained does the same, in half the bytes on request", async () => {
  const { remarks } = await classifier.savePretrained(at("halves"), { r: 2, merge: true, dtype: "bf16" });
  expect(remarks).toEqual([expect.stringContaining(`prelort_worker.models.MeanPooledClassifier.from_pretrained("${at("halves")}")`)]);
  await classifier.savePretrained(at("whole-2"), { r: 2 });
  const distance = (await apart({ peft: at("whole-2"), halves: at("halves") }))["halves"];
  expect(distance).toBeGreaterThan(0);
  expect(distance).toBeLessThan(0.05);
});

test("a killed export leaves no process and no output directory", async () => {
  const child = spawn(process.execPath, [cli, "export", "language", "--merge", "--out", "killed"], { cwd: folder(), stdio: "ignore" });
  const isRunning = () => {
    const listing = execFileSync("ps", ["-A", "-ww", "-o", "stat=,args="], { encoding: "utf8" });
    const program = new RegExp(`prelort_worker\\.export --parent-pid ${child.pid}\\b`);
    return listing.split("\n").some((line) => program.test(line) && !line.startsWith("Z"));
  };
  await vi.waitUntil(isRunning, { timeout: PATIENCE_MS });
  child.kill("SIGKILL");
  await vi.waitUntil(() => !isRunning(), { timeout: PATIENCE_MS });
  expect(existsSync(at("killed"))).toBe(false);
});

test("a rank that the run does not have is a usage error", () => {
  const { status, stderr } = spawnSync(process.execPath, [cli, "export", "language", "--r", "9"], { cwd: folder(), encoding: "utf8" });
  expect([status, stderr]).toEqual([2, expect.stringMatching(/^ {2}r {2}.*\b1\b.*\b8\b.*\b9$/m)]);
});

describe("lora.init_from", () => {
  async function start(options: FederateOptions): Promise<{ readonly result: RunResult; readonly events: readonly RunEvent[] }> {
    const run = federate(options);
    const events: RunEvent[] = [];
    for await (const event of run) events.push(event);
    return { result: await run.result, events };
  }
  const lossesOf = ({ metrics }: RunResult, round: number) => metrics[round]!.byTier.map(({ loss }) => loss!);

  test("a run's rows are copied: before training, the metrics equal that run's bit for bit, and verify recomputes them", async () => {
    const { result, events } = await start({ ...classifierRun("from-run", { init_from: classifier.directory }), recordUpdates: true });
    expect(lossesOf(result, 0)).toEqual(lossesOf(classifier, 1));
    const ready = { type: "adapter-ready", path: classifier.directory, round: 1, r: 8, lost: 0 };
    expect(events).toContainEqual(expect.objectContaining(ready));
    const verified = await verifyRun(result.directory);
    expect(verified.map(({ updates, problems }) => [updates, problems])).toEqual([
      [0, []],
      [4, []],
    ]);
    const again = await start(classifierRun("from-run-again", { init_from: classifier.directory }));
    expect(again.result.sha256).toBe(result.sha256);
  });

  test("a PEFT adapter's product is kept, and the run record names the adapter", async () => {
    await classifier.savePretrained(at("start"));
    const { result } = await start(classifierRun("from-peft", { init_from: at("start") }));
    const [before, after] = [lossesOf(classifier, 1), lossesOf(result, 0)];
    expect(after.at(-1)).toBeCloseTo(before.at(-1)!, 5);
    const record = JSON.parse(readFileSync(path.join(result.directory, "run.json"), "utf8")) as Record<string, unknown>;
    expect(record).toMatchObject({ init_from: { path: at("start"), sha256: expect.any(String), config_sha256: expect.any(String) } });
  });

  test("an adapter from PEFT with several ranks and scales computes the same logits in nested order", async () => {
    await loader().ask("patterned", tiny("tiny-llama"), at("patterned"));
    const { config, peft, layout } = await readTrained(at("language"));
    const drawn = initialAdapter(layout, new Float32Array(0), "aa");
    const { adapter, r } = startFrom(await readSource(at("patterned")), layout, drawn);
    expect(r).toBe(6);
    await writeAdapterFolder(at("nested"), { config, peft, layout, adapter, r: 8, dtype: "f32" });
    const { nested, base } = (await apart({ theirs: at("patterned"), nested: at("nested"), base: tiny("tiny-llama") })) as never;
    expect(nested).toBeLessThan(1e-5);
    expect(base).toBeGreaterThan(1e-3);
  });

  test("another model's adapter is refused, and the error names the modules of both", async () => {
    const run = federate(classifierRun("wrong", { init_from: language.directory }));
    await expect(run.result).rejects.toMatchObject({
      kind: "config",
      issues: expect.arrayContaining([expect.objectContaining({ path: "lora.init_from" })]),
      message: expect.stringMatching(/encoder\..*\.query\b[^]*model\.layers\.0\.self_attn/),
    });
  });
});
