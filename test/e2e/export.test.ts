import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { federate, type FederateOptions, fLoRA, type RunEvent, type RunResult, verifyRun } from "../../src/index.ts";
import { writeAdapterFolder } from "../../src/artifacts/peft-folder.ts";
import { readSource } from "../../src/artifacts/init-source.ts";
import { readTrained } from "../../src/artifacts/load-trained.ts";
import { startFrom } from "../../src/artifacts/init-adapter.ts";
import { initialAdapter } from "../../src/adapter/initialise.ts";
import { cli, python, root, temporaryFolder, tiny, tinyRun } from "../support/e2e.ts";
import { PATIENCE_MS } from "../support/patience.ts";

const folder = temporaryFolder();
const at = (...parts: string[]) => path.join(folder(), ...parts);

function load(...args: string[]): unknown {
  const script = path.join(root, "test/e2e/load_exports.py");
  const env = { ...process.env, PYTHONPATH: path.join(root, "workers") };
  const output = execFileSync(python, [script, ...args], { encoding: "utf8", env, stdio: ["ignore", "pipe", "ignore"] });
  return output === "" ? undefined : JSON.parse(output);
}

/** Largest differences of logits, of each to the first. */
const apart = (folders: Readonly<Record<string, string>>) =>
  load("compare", ...Object.entries(folders).map(([name, place]) => `${name}=${place}`)) as Record<string, number>;

function exported(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, "export", ...args], { cwd: folder(), encoding: "utf8" });
  expect(stderr, stderr).toBe("");
  expect(status).toBe(0);
  return stdout;
}

/** A mean-pooled classifier over three topics' words. */
function classifierRun(name: string, more: Partial<FederateOptions["lora"]> = {}): FederateOptions {
  const base = tinyRun(folder(), name);
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
  const options = tinyRun(folder(), "language");
  language = await federate({ ...options, strategy: { ...options.strategy, aggregation: fLoRA() } }).result;
  classifier = await federate(classifierRun("classifier")).result;
});

test("a language model: PEFT, the whole model at that rank, and the whole model with all that was merged", () => {
  expect(exported("language", "--r", "3")).toBe("PEFT adapter of language after round 2, rank 3, f32: language-r3\n");
  exported("language", "--merge", "--r", "3", "--out", "three");
  const { three, base } = apart({ peft: at("language-r3"), three: at("three"), base: tiny("tiny-llama") }) as never;
  expect(three).toBeLessThan(1e-5);
  expect(base).toBeGreaterThan(1e-3);

  exported("language", "--merge", "--out", "all", "--dtype", "f32");
  const whole = apart({ hand: at("language/rounds/2"), all: at("all"), three: at("three") });
  expect(whole["all"]).toBeLessThan(1e-5);
  // What the SVD at rank 3 leaves out.
  expect(whole["three"]).toBeGreaterThan(1e-4);
});

test("a classifier: its head, its labels, and a note for each loader that takes no head", () => {
  const output = exported("classifier", "--r", "4", "--out", "peft");
  expect(output).toMatch(/^PEFT adapter of classifier after round 1, rank 4, f32: peft\nnote: vLLM cannot load it.*\nnote: llama\.cpp/);
  expect(exported("classifier", "--r", "4", "--merge", "--out", "whole")).toMatch(
    /^whole model of classifier[^\n]*: whole\nnote: load it with prelort_worker\.models\.MeanPooledClassifier\.from_pretrained\("whole"\)\n$/,
  );
  expect(apart({ peft: at("peft"), whole: at("whole") })["whole"]).toBeLessThan(1e-5);
  expect(load("labels", at("whole"))).toEqual({ 0: "animal", 1: "food", 2: "tool", 3: "weather" });
  expect(readdirSync(at("whole"))).toEqual(expect.arrayContaining(["config.json", "model.safetensors", "tokenizer.json", "prelort.json"]));
});

test("savePretrained does the same, in half the bytes if asked", async () => {
  const { remarks } = await classifier.savePretrained(at("halves"), { r: 2, merge: true, dtype: "bf16" });
  expect(remarks).toEqual([`load it with prelort_worker.models.MeanPooledClassifier.from_pretrained("${at("halves")}")`]);
  await classifier.savePretrained(at("whole-2"), { r: 2 });
  const distance = apart({ peft: at("whole-2"), halves: at("halves") })["halves"];
  expect(distance).toBeGreaterThan(0);
  expect(distance).toBeLessThan(0.05);
});

test("an export that is killed leaves no process, and nothing under its name", async () => {
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

test("a rank that the run does not have is a fault of usage", () => {
  const { status, stderr } = spawnSync(process.execPath, [cli, "export", "language", "--r", "9"], { cwd: folder(), encoding: "utf8" });
  expect([status, stderr]).toEqual([2, expect.stringMatching(/r {2}must be a whole number from 1 to 8, got 9/)]);
});

describe("lora.init_from", () => {
  async function start(options: FederateOptions): Promise<{ readonly result: RunResult; readonly events: readonly RunEvent[] }> {
    const run = federate(options);
    const events: RunEvent[] = [];
    for await (const event of run) events.push(event);
    return { result: await run.result, events };
  }
  const lossesOf = ({ metrics }: RunResult, round: number) => metrics[round]!.byTier.map(({ loss }) => loss!);

  test("a run's rows are copied: before training it has that run's figures, to the last bit, and verify makes them anew", async () => {
    const { result, events } = await start({ ...classifierRun("from-run", { init_from: classifier.directory }), recordUpdates: true });
    expect(lossesOf(result, 0)).toEqual(lossesOf(classifier, 1));
    expect(events).toContainEqual({ type: "adapter-ready", path: classifier.directory, round: 1, r: 8, lost: 0 });
    const verified = await verifyRun(result.directory);
    expect(verified.map(({ updates, problems }) => [updates, problems])).toEqual([
      [0, []],
      [4, []],
    ]);
    const again = await start(classifierRun("from-run-again", { init_from: classifier.directory }));
    expect(again.result.sha256).toBe(result.sha256);
  });

  test("a PEFT adapter's product is kept, and the record says which it was", async () => {
    await classifier.savePretrained(at("start"));
    const { result } = await start(classifierRun("from-peft", { init_from: at("start") }));
    const [before, after] = [lossesOf(classifier, 1), lossesOf(result, 0)];
    expect(after.at(-1)).toBeCloseTo(before.at(-1)!, 5);
    const record = JSON.parse(readFileSync(path.join(result.directory, "run.json"), "utf8")) as Record<string, unknown>;
    expect(record).toMatchObject({ init_from: { path: at("start"), sha256: expect.any(String), config_sha256: expect.any(String) } });
  });

  test("an adapter that PEFT made, of several ranks and scales, answers the same in nested order", async () => {
    load("patterned", tiny("tiny-llama"), at("patterned"));
    const { config, peft, layout } = await readTrained(at("language"));
    const drawn = initialAdapter(layout, new Float32Array(0), "aa");
    const { adapter, r } = startFrom(await readSource(at("patterned")), layout, drawn);
    expect(r).toBe(6);
    await writeAdapterFolder(at("nested"), { config, peft, layout, adapter, r: 8, dtype: "f32" });
    const { nested, base } = apart({ theirs: at("patterned"), nested: at("nested"), base: tiny("tiny-llama") }) as never;
    expect(nested).toBeLessThan(1e-5);
    expect(base).toBeGreaterThan(1e-3);
  });

  test("another model's adapter is refused by the names of its modules", async () => {
    const run = federate(classifierRun("wrong", { init_from: language.directory }));
    await expect(run.result).rejects.toThrow(/not adapt .*encoder\..*query[^]*adapts .*model\.layers\.0\.self_attn/);
  });
});
