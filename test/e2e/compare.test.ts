import { spawn, spawnSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  buildRun,
  compare,
  type CompareOptions,
  createLanes,
  type ComparisonResult,
  type Lanes,
  loadComparison,
  loadConfig,
  type Outcome,
  tune,
  type WorkerLauncher,
  writeComparison,
} from "../../src/index.ts";
import { comparisonMarkdown } from "../../src/compare/table.ts";
import { environmentPython } from "../../src/installation.ts";
import { issuesOf } from "../support/config-issues.ts";
import { cli, keepLines, readLines, temporaryFolder, tiny, workersOf } from "../support/e2e.ts";
import { PATIENCE_MS } from "../support/patience.ts";

const folder = temporaryFolder();
let lanes: Lanes;
const pids = new Set<number | undefined>();
const launcher: WorkerLauncher = {
  launch(options) {
    const worker = lanes.launcher.launch(options);
    pids.add(worker.pid);
    return worker;
  },
};
/** Everything, trained side by side in one process. */
let beside: string;
let first: ComparisonResult;
/** One seed at the chosen rate, where each run has a worker of its own. */
let alone: string;
let single: ComparisonResult;
let rate: number;
let started: string[] = [];
let startedFirst: readonly string[];

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
  const begins = `runs_dir: ${folder()}\nsetting: setting.yaml\nreference: prelort\n`;
  const methods = `methods:
  - { name: prelort, set: { fit.objective: sum, fit.full_weight: null } }
  - { name: RBLA }
  - { name: flora, set: { strategy.aggregation: { name: flora } } }
  - { name: flexlora, set: { strategy.aggregation: { name: flexlora } } }
`;
  beside = path.join(folder(), "beside.yaml");
  const search = "seeds: [1, 2]\nlearning_rates: { values: [0.001, 0.01], rounds: 1, seed: 3 }\n";
  writeFileSync(beside, `name: beside\n${begins}${search}${methods}`);
  alone = path.join(folder(), "alone.yaml");
  writeFileSync(alone, `name: alone\n${begins}seeds: [1]\nbudgets: [rounds]\n${methods.replace("  - { name: RBLA }\n", "")}`);
  lanes = createLanes({ command: environmentPython(), processes: 1 });
  first = await run(beside, { jobs: 3, lanes: { launcher } });
  startedFirst = started;
  rate = first.learningRates?.["all"]?.chosen ?? 0;
  single = await runAlone();
});
afterAll(() => lanes.close());

function lossesOf({ rounds }: Outcome): number[] {
  return rounds.flatMap(({ byTier }) => byTier.map(({ loss }) => loss ?? Infinity));
}

function closeTo(loss: number): unknown {
  return expect.closeTo(loss, 5);
}

async function run(file: string, options: CompareOptions): Promise<ComparisonResult> {
  started = [];
  const onRun = ({ name, state }: { name: string; state: string }) => void (state === "started" && started.push(name));
  return compare(await loadComparison(file), { onRun, ...options });
}

function runAlone(): Promise<ComparisonResult> {
  return run(alone, { jobs: 2, set: [`fit.lr=${rate}`] });
}

describe("a comparison", () => {
  test("measures every method with every seed, and tunes the learning rate on another seed", () => {
    expect(first.missing).toEqual([]);
    expect(startedFirst.filter((name) => name.startsWith("lr.")).toSorted()).toEqual(["lr.all.0.001", "lr.all.0.01"]);
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

  test("has the figures of runs that each have a worker of their own when they train side by side in one process", async () => {
    expect(single.missing).toEqual([]);
    expect(single.outcomes.map(({ method }) => method)).toEqual(["prelort", "flora", "flora (merged)", "flexlora"]);
    for (const outcome of single.outcomes) {
      const same = first.outcomes.find(({ method, seed, budget }) => method === outcome.method && seed === 1 && budget === "rounds")!;
      expect(lossesOf(same), outcome.method).toEqual(lossesOf(outcome).map((loss) => closeTo(loss)));
    }
    expect(pids.size).toBe(1);
    const record = JSON.parse(readFileSync(path.join(folder(), "beside", "rbla.seed-1", "run.json"), "utf8")) as object;
    expect(record).toHaveProperty("variables.PRELORT_SIDE_BY_SIDE", "1");
    expect(comparisonMarkdown(first)).toContain("trained side by side");
    // Its runs are not mixed with others.
    const issues = await issuesOf(() => run(beside, {}));
    expect(issues).toEqual([
      { path: "name", message: expect.stringMatching(/holds a finished run that trained side by side with others/) },
    ]);
  });

  test("refuses to replace runs that finished with another config, and makes none that is missing", async () => {
    const [there, aside] = [path.join(folder(), "alone", "flexlora.seed-1"), path.join(folder(), "set-aside")];
    cpSync(there, aside, { recursive: true });
    rmSync(there, { recursive: true });
    const finished: string[] = [];
    const onRun = ({ name, state }: { name: string; state: string }) => void (state === "finished" && finished.push(name));
    const set = [`fit.lr=${rate}`, "fit.batch_size=3"];
    const issues = await issuesOf(() => run(alone, { set, onRun }));
    expect(issues).toEqual([{ path: "name", message: expect.stringMatching(/alone.*finished.*--overwrite/) }]);
    expect(finished).toEqual([]);
    expect(readLines(folder(), "alone", "flora.seed-1", "journal.jsonl").at(-1)).toEqual({ type: "end" });
    rmSync(there, { recursive: true, force: true });
    cpSync(aside, there, { recursive: true });
  });

  test("keeps finished runs when it is run again, and resumes an unfinished one to the same numbers", async () => {
    const unfinished = path.join(folder(), "alone", "flexlora.seed-1");
    const journal = readFileSync(path.join(unfinished, "journal.jsonl"), "utf8");
    expect(readLines(unfinished, "journal.jsonl").at(-1)).toEqual({ type: "end" });
    const firstRound = journal.indexOf("\n", journal.indexOf('"type":"commit","round":1,')) + 1;
    writeFileSync(path.join(unfinished, "journal.jsonl"), journal.slice(0, firstRound));
    keepLines(path.join(unfinished, "metrics.jsonl"), 2);
    const again = await runAlone();
    expect(started).toEqual(["flexlora.seed-1"]);
    const timeless = ({ outcomes }: ComparisonResult) => outcomes.map((outcome) => ({ ...outcome, seconds: 0 }));
    expect(timeless(again)).toEqual(timeless(single));
    expect(readLines(unfinished, "journal.jsonl")).toContainEqual({ type: "resume", after: 1, differences: [] });
  });

  test("refuses a method that changes what all methods must share, before a run starts", async () => {
    const other = path.join(folder(), "unfair.yaml");
    writeFileSync(
      other,
      readFileSync(beside, "utf8").replace("{ name: RBLA }", "{ name: RBLA, set: { data.max_examples: 40, rounds: 3 } }"),
    );
    const progress: unknown[] = [];
    const issues = await issuesOf(async () => compare(await loadComparison(other), { onRun: (state) => progress.push(state) }));
    expect(issues).toEqual([
      { path: "methods[1].set", message: expect.stringMatching(/"RBLA".*"prelort".*\bdata\b/) },
      { path: "methods[1].set", message: expect.stringMatching(/"RBLA".*"prelort".*\brounds\b/) },
    ]);
    expect(progress).toEqual([]);
  });

  test("exits with 130 when it is interrupted, says how the whole goes on, and leaves no worker behind", async () => {
    const other = path.join(folder(), "interrupted.yaml");
    writeFileSync(other, readFileSync(alone, "utf8").replace("name: alone", "name: interrupted"));
    const child = spawn(process.execPath, [cli, "compare", other, "--jobs", "2", "--set", "rounds=100000"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const code = new Promise<number | null>((resolve) => child.once("close", resolve));
    let said = "";
    child.stderr.on("data", (text: Buffer) => (said += text.toString()));
    for await (const line of createInterface({ input: child.stdout })) if (line.includes("started")) break;
    await vi.waitUntil(() => workersOf(child.pid ?? 0).length > 0, { timeout: PATIENCE_MS });
    child.kill("SIGINT");
    expect(await code).toBe(130);
    expect(said).toMatch(/the comparison was interrupted.*\bsame command again/);
    expect(said).not.toContain("prelort resume");
    expect(workersOf(child.pid ?? 0)).toEqual([]);
  });

  test("is printed by the command line, which repeats no finished run", () => {
    const { status, stdout } = spawnSync(process.execPath, [cli, "compare", alone, "--jobs", "1", "--set", `fit.lr=${rate}`], {
      encoding: "utf8",
    });
    expect(status).toBe(0);
    expect(stdout).not.toContain("started");
    expect(stdout).toContain("| flora (merged) |");
    expect(readdirSync(path.join(folder(), "alone"))).toEqual(expect.arrayContaining(["compare.json", "compare.md", "compare.svg"]));
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

test("prelort tune finds a rate among those asked for and stops what is worse; side by side it finds the same", async () => {
  const values = [0.001, 0.003, 0.01, 0.03];
  const set = [`runs_dir=${folder()}`, "name=sought"];
  const options = ["--lr", values.join(","), "--rounds", "4", "--seed", "5", ...set.flatMap((each) => ["--set", each])];
  const found = spawnSync(process.execPath, [cli, "tune", "setting.yaml", ...options], { cwd: folder(), encoding: "utf8" });
  expect([found.status, found.stderr]).toEqual([0, ""]);
  const { chosen, trials } = JSON.parse(readFileSync(path.join(folder(), "sought-tune", "tune.json"), "utf8")) as {
    chosen: number;
    trials: { lr: number; losses: (number | null)[] }[];
  };
  expect(found.stdout).toContain(`to use it: --set fit.lr=${chosen}`);
  expect(trials.map(({ lr }) => lr)).toEqual(values);
  const final = trials.flatMap(({ lr, losses }) => (losses.length === 3 ? [{ lr, loss: losses[2] ?? Infinity }] : []));
  expect(final.length).toBeLessThan(trials.length);
  expect(final.toSorted((a, b) => a.loss - b.loss)[0]?.lr).toBe(chosen);
  expect(statSync(path.join(folder(), "sought-tune", "tune.svg")).size).toBeGreaterThan(1000);

  const input = buildRun(await loadConfig(path.join(folder(), "setting.yaml"), { set: [`runs_dir=${folder()}`, "name=together"] }));
  const together = await tune(input, { lanes: { launcher }, jobs: 4, values, rounds: 4, seeds: [5] });
  expect(together.chosen).toBe(chosen);
  for (const [index, { losses }] of together.trials.entries())
    expect(losses).toEqual(trials[index]?.losses.map((loss) => closeTo(loss ?? NaN)));
});

test("the process of runs that trained side by side ends with its lanes", async () => {
  await lanes.close();
  expect(() => process.kill([...pids][0] ?? 0, 0)).toThrow("ESRCH");
});
