import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { compare, type ComparisonResult, ConfigError, loadComparison, writeComparison } from "../../src/index.ts";
import { cli, keepLines, readLines, temporaryFolder, tiny, workersOf } from "../support/e2e.ts";
import { PATIENCE_MS } from "../support/patience.ts";

const folder = temporaryFolder();
let file: string;
let first: ComparisonResult;
const started: string[] = [];

/** On a tiny model, for real: three clients of three ranks, two rounds, two seeds. */
beforeAll(async () => {
  writeFileSync(
    path.join(folder(), "setting.yaml"),
    `rounds: 2
model: { name_or_path: ${tiny("tiny-llama")}, task: causal-lm }
lora: { r: 4, tiers: [1, 2, 4], target_modules: [q_proj, v_proj] }
data:
  path: ${tiny("words.jsonl")}
  prompt: "Define the noun {word} ."
  answer: "{gloss}"
  max_length: 32
  eval_examples: 16
  client_eval_examples: 3
  clients: 3
strategy:
  rank_assignment: { name: list, ranks: [4, 2, 1] }
fit: { objective: none, local_steps: 4, batch_size: 4, lr: 0.01 }
evaluate: { max_new_tokens: 4 }
workers: { count: 1 }
`,
  );
  file = path.join(folder(), "trial.yaml");
  writeFileSync(
    file,
    `name: trial
runs_dir: ${folder()}
setting: setting.yaml
seeds: [1, 2]
learning_rates: { values: [0.001, 0.01], rounds: 1, seed: 3 }
reference: prelort
methods:
  - { name: prelort, set: { fit.objective: sum, fit.full_weight: null } }
  - { name: RBLA }
  - { name: flora, set: { strategy.aggregation: { name: flora } } }
  - { name: flexlora, set: { strategy.aggregation: { name: flexlora } } }
`,
  );
  first = await run();
});

async function run(): Promise<ComparisonResult> {
  started.length = 0;
  const onRun = ({ name, state }: { name: string; state: string }) => void (state === "started" && started.push(name));
  return compare(await loadComparison(file), { jobs: 2, onRun });
}

describe("a comparison", () => {
  test("measures every method with every seed, and tunes the learning rate on another seed", () => {
    expect(first.missing).toEqual([]);
    expect(started.filter((name) => name.startsWith("lr.")).toSorted()).toEqual(["lr.all.0.001", "lr.all.0.01"]);
    const { chosen, tried, method } = first.learningRates?.["all"] ?? {};
    expect(method).toBe("prelort");
    expect(tried?.map(({ lr }) => lr)).toEqual([0.001, 0.01]);
    const best = Math.min(...(tried ?? []).map(({ loss }) => loss ?? Infinity));
    expect(tried?.find(({ lr }) => lr === chosen)?.loss).toBe(best);
    expect(first.outcomes.every(({ lr }) => lr === chosen)).toBe(true);

    const measured = first.outcomes.filter(({ budget }) => budget === "rounds").map(({ method: name, seed }) => `${name} ${seed}`);
    const names = [...new Set(first.outcomes.map(({ method: name }) => name))];
    expect(names).toEqual(["prelort", "RBLA", "flora", "flora (merged)", "flexlora"]);
    expect(measured.toSorted()).toEqual(names.flatMap((name) => [`${name} 1`, `${name} 2`]).toSorted());
  });

  test("has every metric at every tier, of every client, and the same clients and splits for all methods of a seed", () => {
    for (const { method, byTier, byClient, energy, coverage, summary } of first.outcomes) {
      expect(byTier.map(({ r }) => r)).toEqual([1, 2, 4]);
      for (const { loss, perplexity, rougeL } of byTier) {
        expect(Math.exp(loss ?? 0)).toBeCloseTo(perplexity ?? 0, 6);
        expect(rougeL).not.toBeNull();
      }
      expect(byClient.map(({ r }) => r)).toEqual(method === "flora (merged)" ? [] : [4, 2, 1]);
      expect(energy.map(({ r }) => r)).toEqual([1, 2, 4]);
      expect(coverage.map(({ share }) => share)).toEqual([1, 1, 1]);
      expect(summary.worstLoss).toBe(Math.max(...byTier.map(({ loss }) => loss ?? 0)));
    }
    const before = first.outcomes.filter(({ seed }) => seed === 1).map(({ rounds }) => rounds[0]?.byTier.map(({ loss }) => loss));
    expect(new Set(before.map((losses) => JSON.stringify(losses))).size).toBe(1);
  });

  test("lets a method that takes two passes a step have half of the steps at equal compute", () => {
    const [plain] = first.outcomes.filter(({ method, seed }) => method === "RBLA" && seed === 1);
    const [rounds, compute] = first.outcomes.filter(({ method, seed }) => method === "prelort" && seed === 1);
    // Ranks 4, 2 and 1 train 3, 2 and 1 truncations.
    expect(plain?.passes).toBe(2 * 3 * 4);
    expect(rounds).toMatchObject({ budget: "rounds", localSteps: 4, passes: 2 * plain!.passes });
    expect(compute).toMatchObject({ budget: "compute", localSteps: 2, passes: plain!.passes });
  });

  test("charges FLoRA for the stacks that a client missed, and shows its merged model at every tier alike", () => {
    const [truncated, merged] = first.outcomes.filter(({ method, seed }) => method.startsWith("flora") && seed === 1);
    const [plain] = first.outcomes.filter(({ method, seed }) => method === "RBLA" && seed === 1);
    expect(truncated?.bytesUp).toBe(plain?.bytesUp);
    // Before the second round each of the three clients gets the 4 + 2 + 1 components merged after the first.
    const component = plain!.bytesDown / (2 * (4 + 2 + 1));
    expect(truncated?.bytesDown).toBe(plain!.bytesDown + 3 * (4 + 2 + 1) * component);
    expect(new Set(merged?.byTier.map(({ loss }) => loss)).size).toBe(1);
    expect(new Set(truncated?.byTier.map(({ loss }) => loss)).size).toBe(3);
  });

  test("goes on where it was: runs that are there are kept, one whose end is missing is gone on with, to the same numbers", async () => {
    const run1 = path.join(folder(), "trial", "rbla.seed-1");
    const journal = readFileSync(path.join(run1, "journal.jsonl"), "utf8");
    expect(readLines(run1, "journal.jsonl").at(-1)).toEqual({ type: "end" });
    const firstRound = journal.indexOf("\n", journal.indexOf('"type":"commit","round":1,')) + 1;
    writeFileSync(path.join(run1, "journal.jsonl"), journal.slice(0, firstRound));
    keepLines(path.join(run1, "metrics.jsonl"), 2);
    const again = await run();
    expect(started).toEqual(["rbla.seed-1"]);
    const timeless = ({ outcomes }: ComparisonResult) => outcomes.map((outcome) => ({ ...outcome, seconds: 0 }));
    expect(timeless(again)).toEqual(timeless(first));
    expect(readLines(run1, "journal.jsonl")).toContainEqual({ type: "resume", after: 1, differences: [] });
  });

  test("refuses a method that changes what all must share, before anything starts", async () => {
    const other = path.join(folder(), "unfair.yaml");
    writeFileSync(other, readFileSync(file, "utf8").replace("{ name: RBLA }", "{ name: RBLA, set: { data.max_examples: 40, rounds: 3 } }"));
    started.length = 0;
    const error = await compare(await loadComparison(other)).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(ConfigError);
    const messages = (error as ConfigError).issues.map(({ message }) => message);
    expect(messages).toEqual([
      '"RBLA" differs from "prelort" in data, which all methods must share',
      '"RBLA" differs from "prelort" in rounds, which all methods must share',
    ]);
  });

  test("refuses to replace what was finished under another config, unless asked to", async () => {
    await expect(compare(await loadComparison(file), { set: ["fit.batch_size=3"] })).rejects.toThrow(
      /holds a finished run of another config/,
    );
    expect(readLines(folder(), "trial", "rbla.seed-1", "journal.jsonl").at(-1)).toEqual({ type: "end" });
  });

  test("which is refused, goes on with none of its other runs", async () => {
    const [tuned = ""] = readdirSync(path.join(folder(), "trial")).filter((name) => name.startsWith("lr.") && name.endsWith(".0.001"));
    rmSync(path.join(folder(), "trial", tuned), { recursive: true });
    const finished: string[] = [];
    const onRun = ({ name, state }: { name: string; state: string }) => void (state === "finished" && finished.push(name));
    await expect(compare(await loadComparison(file), { set: ["fit.batch_size=3"], onRun })).rejects.toThrow(ConfigError);
    expect(finished).toEqual([]);
    await run();
    expect(started).toEqual([tuned]);
  });

  test("that is interrupted ends with 130, and leaves no worker behind", async () => {
    const other = path.join(folder(), "interrupted.yaml");
    writeFileSync(other, readFileSync(file, "utf8").replace("name: trial", "name: interrupted"));
    const child = spawn(process.execPath, [cli, "compare", other, "--jobs", "2", "--set", "rounds=100000"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    const code = new Promise<number | null>((resolve) => child.once("exit", resolve));
    for await (const line of createInterface({ input: child.stdout })) if (line.includes("started")) break;
    await vi.waitUntil(() => workersOf(child.pid ?? 0).length > 0, { timeout: PATIENCE_MS });
    child.kill("SIGINT");
    expect(await code).toBe(130);
    expect(workersOf(child.pid ?? 0)).toEqual([]);
  });

  test("is told by the command line, which runs nothing that is there", () => {
    const { status, stdout } = spawnSync(process.execPath, [cli, "compare", file, "--jobs", "1"], { encoding: "utf8" });
    expect(status).toBe(0);
    expect(stdout).not.toContain("started");
    expect(stdout).toContain("| flora (merged) |");
    expect(readdirSync(path.join(folder(), "trial"))).toEqual(expect.arrayContaining(["compare.json", "compare.md", "compare.svg"]));
  });

  test("is written as JSON, as a Markdown table with both budgets, and as a picture", async () => {
    const files = await writeComparison(first, path.join(folder(), "written"));
    expect(readdirSync(path.join(folder(), "written")).toSorted()).toEqual(["compare.json", "compare.md", "compare.svg"]);
    const [json, markdown, svg] = files.map((name) => readFileSync(name, "utf8"));
    const parsed = JSON.parse(json!) as { outcomes: { by_tier: { rouge_l: number }[] }[] };
    expect(parsed.outcomes).toHaveLength(first.outcomes.length);
    expect(markdown).toContain("## Equal rounds");
    expect(markdown).toContain("## Equal compute");
    expect(markdown).toMatch(/\| RBLA \| \d+\.\d{3} ± \d+\.\d{3} \|/);
    expect(markdown).toMatch(/\| against \| seeds \| area \| r=1 \| r=4 \| worst \|/);
    expect(svg).toMatch(/^<svg [^>]*>[\s\S]*<\/svg>\n$/);
    expect(statSync(files[2]!).size).toBeGreaterThan(5000);
  });
});
