import { spawn, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { beforeAll, describe, expect, test, vi } from "vitest";
import {
  compare,
  createLanes,
  type ComparisonResult,
  loadComparison,
  type Outcome,
  type WorkerLauncher,
  writeComparison,
} from "../../src/index.ts";
import { comparisonMarkdown } from "../../src/compare/table.ts";
import { environmentPython } from "../../src/installation.ts";
import { issuesOf } from "../support/config-issues.ts";
import { cli, keepLines, readLines, temporaryFolder, tiny, workersOf } from "../support/e2e.ts";
import { PATIENCE_MS } from "../support/patience.ts";

const folder = temporaryFolder();
let file: string;
let first: ComparisonResult;
const started: string[] = [];

/** Trains a tiny model with real workers: three clients of three ranks, two rounds, two seeds. */
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

function lossesOf({ rounds }: Outcome): number[] {
  return rounds.flatMap(({ byTier }) => byTier.map(({ loss }) => loss ?? Infinity));
}

function closeTo(loss: number): unknown {
  return expect.closeTo(loss, 5);
}

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

  test("has every metric at every tier and for every client, and the same loss before training for all methods of a seed", () => {
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

  test("gives a method that takes two passes a step half as many steps at equal compute", () => {
    const [plain] = first.outcomes.filter(({ method, seed }) => method === "RBLA" && seed === 1);
    const [rounds, compute] = first.outcomes.filter(({ method, seed }) => method === "prelort" && seed === 1);
    // Ranks 4, 2 and 1 train 3, 2 and 1 truncations.
    expect(plain?.passes).toBe(2 * 3 * 4);
    expect(rounds).toMatchObject({ budget: "rounds", localSteps: 4, passes: 2 * plain!.passes });
    expect(compute).toMatchObject({ budget: "compute", localSteps: 2, passes: plain!.passes });
  });

  test("counts the stacked components that FLoRA sends again, and has the same loss at every tier for its merged model", () => {
    const [truncated, merged] = first.outcomes.filter(({ method, seed }) => method.startsWith("flora") && seed === 1);
    const [plain] = first.outcomes.filter(({ method, seed }) => method === "RBLA" && seed === 1);
    expect(truncated?.bytesUp).toBe(plain?.bytesUp);
    // Before the second round each of the three clients gets the 4 + 2 + 1 components merged after the first.
    const component = plain!.bytesDown / (2 * (4 + 2 + 1));
    expect(truncated?.bytesDown).toBe(plain!.bytesDown + 3 * (4 + 2 + 1) * component);
    expect(new Set(merged?.byTier.map(({ loss }) => loss)).size).toBe(1);
    expect(new Set(truncated?.byTier.map(({ loss }) => loss)).size).toBe(3);
  });

  test("keeps finished runs when it is run again, and resumes an unfinished one to the same numbers", async () => {
    const unfinished = path.join(folder(), "trial", "rbla.seed-1");
    const journal = readFileSync(path.join(unfinished, "journal.jsonl"), "utf8");
    expect(readLines(unfinished, "journal.jsonl").at(-1)).toEqual({ type: "end" });
    const firstRound = journal.indexOf("\n", journal.indexOf('"type":"commit","round":1,')) + 1;
    writeFileSync(path.join(unfinished, "journal.jsonl"), journal.slice(0, firstRound));
    keepLines(path.join(unfinished, "metrics.jsonl"), 2);
    const again = await run();
    expect(started).toEqual(["rbla.seed-1"]);
    const timeless = ({ outcomes }: ComparisonResult) => outcomes.map((outcome) => ({ ...outcome, seconds: 0 }));
    expect(timeless(again)).toEqual(timeless(first));
    expect(readLines(unfinished, "journal.jsonl")).toContainEqual({ type: "resume", after: 1, differences: [] });
  });

  test("has the same figures when all runs train side by side in one process, and leaves none behind", async () => {
    const beside = path.join(folder(), "beside.yaml");
    writeFileSync(beside, readFileSync(file, "utf8").replace("name: trial", "name: beside"));
    const lanes = createLanes({ command: environmentPython(), processes: 1 });
    const pids = new Set<number | undefined>();
    const launcher: WorkerLauncher = {
      ...lanes.launcher,
      launch(options) {
        const worker = lanes.launcher.launch(options);
        pids.add(worker.pid);
        return worker;
      },
    };
    const together = await compare(await loadComparison(beside), { jobs: 3, lanes: { launcher } });
    await lanes.close();
    expect(pids.size).toBe(1);
    expect(() => process.kill([...pids][0] ?? 0, 0)).toThrow("ESRCH");
    expect(together.missing).toEqual([]);
    expect(together.learningRates?.["all"]?.chosen).toBe(first.learningRates?.["all"]?.chosen);
    expect(together.outcomes.map(lossesOf)).toEqual(first.outcomes.map((outcome) => lossesOf(outcome).map((loss) => closeTo(loss))));
    const record = JSON.parse(readFileSync(path.join(folder(), "beside", "rbla.seed-1", "run.json"), "utf8")) as object;
    expect(record).toHaveProperty("variables.PRELORT_SIDE_BY_SIDE", "1");
    expect(comparisonMarkdown(together)).toContain("trained side by side");
    // Its runs are not mixed with others.
    const issues = await issuesOf(async () => compare(await loadComparison(beside)));
    expect(issues).toEqual([
      { path: "name", message: expect.stringMatching(/holds a finished run that trained side by side with others/) },
    ]);
  });

  test("refuses a method that changes what all methods must share, before a run starts", async () => {
    const other = path.join(folder(), "unfair.yaml");
    writeFileSync(other, readFileSync(file, "utf8").replace("{ name: RBLA }", "{ name: RBLA, set: { data.max_examples: 40, rounds: 3 } }"));
    const progress: unknown[] = [];
    const issues = await issuesOf(async () => compare(await loadComparison(other), { onRun: (state) => progress.push(state) }));
    expect(issues).toEqual([
      { path: "methods[1].set", message: expect.stringMatching(/"RBLA".*"prelort".*\bdata\b/) },
      { path: "methods[1].set", message: expect.stringMatching(/"RBLA".*"prelort".*\brounds\b/) },
    ]);
    expect(progress).toEqual([]);
  });

  test("refuses to replace a run that finished with another config", async () => {
    const issues = await issuesOf(async () => compare(await loadComparison(file), { set: ["fit.batch_size=3"] }));
    expect(issues).toEqual([{ path: "name", message: expect.stringMatching(/trial.*finished.*--overwrite/) }]);
    expect(readLines(folder(), "trial", "rbla.seed-1", "journal.jsonl").at(-1)).toEqual({ type: "end" });
  });

  test("makes none of its runs if one is refused", async () => {
    const [tuned = ""] = readdirSync(path.join(folder(), "trial")).filter((name) => name.startsWith("lr.") && name.endsWith(".0.001"));
    rmSync(path.join(folder(), "trial", tuned), { recursive: true });
    const finished: string[] = [];
    const onRun = ({ name, state }: { name: string; state: string }) => void (state === "finished" && finished.push(name));
    await issuesOf(async () => compare(await loadComparison(file), { set: ["fit.batch_size=3"], onRun }));
    expect(finished).toEqual([]);
    await run();
    expect(started).toEqual([tuned]);
  });

  test("exits with 130 when it is interrupted, and leaves no worker behind", async () => {
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

  test("is printed by the command line, which repeats no finished run", () => {
    const { status, stdout } = spawnSync(process.execPath, [cli, "compare", file, "--jobs", "1"], { encoding: "utf8" });
    expect(status).toBe(0);
    expect(stdout).not.toContain("started");
    expect(stdout).toContain("| flora (merged) |");
    expect(readdirSync(path.join(folder(), "trial"))).toEqual(expect.arrayContaining(["compare.json", "compare.md", "compare.svg"]));
  });

  test("is written as JSON, as Markdown tables for both budgets, and as a picture", async () => {
    const files = await writeComparison(first, path.join(folder(), "written"));
    expect(readdirSync(path.join(folder(), "written")).toSorted()).toEqual(["compare.json", "compare.md", "compare.svg"]);
    const [json, markdown, svg] = files.map((name) => readFileSync(name, "utf8"));
    const parsed = JSON.parse(json!) as { outcomes: { by_tier: { rouge_l: number }[] }[] };
    expect(parsed.outcomes).toHaveLength(first.outcomes.length);
    expect(markdown).toContain("## Equal rounds");
    expect(markdown).toContain("## Equal compute");
    expect(markdown).toMatch(/\| RBLA \| \d+\.\d{3} ± \d+\.\d{3} \|/);
    expect(markdown).toMatch(/\| against \| seeds \| area \| r=1 \| r=2 \| r=4 \| worst \|/);
    expect(svg).toMatch(/^<svg [^>]*>[\s\S]*<\/svg>\n$/);
    expect(statSync(files[2]!).size).toBeGreaterThan(5000);
  });
});

test("prelort tune finds a rate among those asked for, stops what is worse, and goes on where it was; --side-by-side agrees with it", () => {
  const tuneIn = (name: string, ...options: string[]) => {
    const set = ["--set", `runs_dir=${folder()}`, "--set", `name=${name}`];
    const args = [cli, "tune", "setting.yaml", "--lr", "0.001,0.003,0.01,0.03", "--rounds", "4", "--seed", "5", ...set, ...options];
    return spawnSync(process.execPath, args, { cwd: folder(), encoding: "utf8" });
  };
  const found = (name: string) =>
    JSON.parse(readFileSync(path.join(folder(), `${name}-tune`, "tune.json"), "utf8")) as {
      chosen: number;
      trials: { lr: number; losses: (number | null)[] }[];
    };
  const { status, stdout, stderr } = tuneIn("sought");
  expect([status, stderr]).toEqual([0, ""]);
  const { chosen, trials } = found("sought");
  expect(stdout).toContain(`to use it: --set fit.lr=${chosen}`);
  expect(trials.map(({ lr }) => lr)).toEqual([0.001, 0.003, 0.01, 0.03]);
  const final = trials.flatMap(({ lr, losses }) => (losses.length === 3 ? [{ lr, loss: losses[2] ?? Infinity }] : []));
  expect(final.length).toBeLessThan(trials.length);
  expect(final.toSorted((a, b) => a.loss - b.loss)[0]?.lr).toBe(chosen);
  expect(statSync(path.join(folder(), "sought-tune", "tune.svg")).size).toBeGreaterThan(1000);
  const again = tuneIn("sought");
  expect([again.status, again.stdout.includes("started")]).toEqual([0, false]);
  expect(tuneIn("beside", "--side-by-side", "4").status).toBe(0);
  const beside = found("beside");
  expect(beside.chosen).toBe(chosen);
  for (const [index, { losses }] of beside.trials.entries())
    expect(losses).toEqual(trials[index]?.losses.map((loss) => closeTo(loss ?? NaN)));
});
