import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { beforeAll, describe, expect, test } from "vitest";
import type { Plan } from "../../src/index.ts";
import { cli, root, temporaryFolder, tiny, workersOf } from "../support/e2e.ts";
import { eventually } from "../support/patience.ts";

const folder = temporaryFolder();
let config: string;

beforeAll(() => {
  config = path.join(folder(), "tiny.yaml");
  writeFileSync(
    config,
    `name: tiny
runs_dir: ${folder()}/runs
rounds: 2
model: { name_or_path: ${tiny("tiny-llama")}, task: causal-lm }
lora: { r: 4, tiers: [1, 2, 4], target_modules: [q_proj, v_proj] }
data: { path: ${tiny("words.jsonl")}, prompt: "Define the noun {word} .", answer: "{gloss}", max_length: 32, eval_examples: 16, clients: 3 }
strategy:
  rank_assignment: { name: list, ranks: [4, 2, 1] }
fit: { local_steps: 2, batch_size: 4, lr: 0.01 }
`,
  );
});

/** Runs the command line to its end. */
function prelort(...args: readonly string[]): { code: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", cwd: folder() });
  return { code: status, output: stdout + stderr };
}

interface LongRun {
  readonly child: ChildProcess;
  readonly temporary: string;
  readonly code: Promise<number | null>;
  /** Resolves when an event of that type comes. */
  until(type: string): Promise<void>;
}

function startLongRun(name: string): LongRun {
  const temporary = path.join(folder(), `tmp-${name}`);
  mkdirSync(temporary);
  const args = ["run", config, "--json", "--set", `name=${name}`, "--set", "rounds=100000"];
  const child = spawn(process.execPath, [cli, ...args], {
    env: { ...process.env, TMPDIR: temporary },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const code = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const seen = new Set<string>();
  const waiting = new Map<string, () => void>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    const { type } = JSON.parse(line) as { type: string };
    seen.add(type);
    waiting.get(type)?.();
  });
  return { child, temporary, code, until: (type) => new Promise((resolve) => (seen.has(type) ? resolve() : waiting.set(type, resolve))) };
}

async function expectNothingLeft(pid: number, temporary: string): Promise<void> {
  await eventually(() => {
    expect(workersOf(pid), "workers left").toEqual([]);
    expect(readdirSync(temporary), "sockets and temporary files left").toEqual([]);
  });
}

test("run trains and prints where its report is; report writes it again", () => {
  const { code, output } = prelort("run", config);
  expect(code, output).toBe(0);
  const run = path.join(folder(), "runs", "tiny");
  expect(output).toContain(path.join(run, "report.html"));
  expect(readdirSync(path.join(run, "adapters")).toSorted()).toEqual(["r1", "r2", "r4"]);

  const report = prelort("report", run);
  expect(report.code, report.output).toBe(0);
  expect(readFileSync(path.join(run, "report.html"), "utf8")).toContain("<svg");

  const again = prelort("run", config);
  expect(again.code).toBe(2);
  expect(again.output).toContain("--overwrite");
});

test("plan shows ranks, bytes and, with --measure, times, draws who would train on what, and creates no run directory", () => {
  const byTopic = ["name=planned", "data.partition.name=dirichlet", "data.partition.by=topic", "data.partition.alpha=1"];
  const set = byTopic.flatMap((each) => ["--set", each]);
  const args = [cli, "plan", config, "--json", "--measure", "--picture", "partition.svg", ...set];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", cwd: folder() });
  expect(status, stdout + stderr).toBe(0);
  const plan = JSON.parse(stdout) as {
    clients: { r: number; bytesPerFit: { down: number; up: number } }[];
    time: NonNullable<Plan["time"]>;
    slots: Plan["slots"];
  };
  expect(plan.clients.map(({ r }) => r)).toEqual([4, 2, 1]);
  // Rank r of q_proj (32 → 32) and v_proj (32 → 16) in two layers: r · 2 · (64 + 48) floats.
  const bytes = [4, 2, 1].map((r) => r * 2 * 112 * 4);
  expect(plan.clients.map(({ bytesPerFit }) => bytesPerFit)).toEqual(bytes.map((way) => ({ down: way, up: way })));
  expect(plan.time.tiers.map(({ r }) => r)).toEqual([1, 2, 4]);
  expect(plan.time.runSeconds).toBeGreaterThan(0);
  if (process.platform === "linux") {
    expect(plan.time.tiers.every(({ peakMemoryBytes }) => (peakMemoryBytes ?? 0) > 50e6)).toBe(true);
    expect(plan.slots?.slotsPerDevice).toBeGreaterThan(0);
  }
  expect(existsSync(path.join(folder(), "runs", "planned"))).toBe(false);

  expect(stderr).toContain("partition.svg");
  const svg = readFileSync(path.join(folder(), "partition.svg"), "utf8");
  expect(svg).toMatch(/^<svg xmlns="[^]*<title>[^<]+<\/title>[^]*<\/svg>\n$/);
});

test("plan --picture refuses a folder that does not exist before a worker starts", () => {
  const cache = path.join(folder(), "cache");
  const args = [cli, "plan", config, "--picture", "absent/partition.svg"];
  const refused = spawnSync(process.execPath, args, { encoding: "utf8", cwd: folder(), env: { ...process.env, PRELORT_CACHE: cache } });
  expect([refused.status, refused.stderr]).toEqual([2, expect.stringMatching(/--picture .*\babsent\b/)]);
  expect(existsSync(path.join(cache, "logs"))).toBe(false);
});

test("a wrong config reports every issue with its location, exits with 2 and starts nothing", () => {
  const wrong = path.join(folder(), "wrong.yaml");
  writeFileSync(wrong, readFileSync(config, "utf8").replace("rounds: 2", "rounds: none").replace("local_steps", "lokal_steps"));
  const { code, output } = prelort("run", wrong, "--set", "lora.r=2");
  expect(code).toBe(2);
  expect(output).toContain(`${wrong}:3:9`);
  expect(output).toMatch(/lokal_steps.*\blocal_steps\b/);
  expect(output).toContain("lora.tiers");
  expect(existsSync(path.join(folder(), "runs", "wrong"))).toBe(false);
});

test("usage errors exit with 2; a missing Python exits with 3 and names the command that installs it", () => {
  expect(prelort("run").code).toBe(2);
  expect(prelort("frobnicate").code).toBe(2);
  const { code, output } = prelort("run", config, "--set", "name=no-python", "--set", "workers.python=/nowhere/python");
  expect(code).toBe(3);
  expect(output).toContain("prelort setup");
});

describe("no worker, socket or temporary file is left behind", () => {
  test("after Ctrl-C, and the run keeps its committed rounds and exits with 130", async () => {
    const run = startLongRun("ctrl-c");
    await run.until("round-end");
    run.child.kill("SIGINT");
    expect(await run.code).toBe(130);
    await expectNothingLeft(run.child.pid as number, run.temporary);
    expect(readdirSync(path.join(folder(), "runs", "ctrl-c", "rounds"))).toContain("0");
  });

  test("after the reader of the events is gone, and the run keeps its committed rounds and exits with 141", async () => {
    const run = startLongRun("head");
    await run.until("round-end");
    run.child.stdout?.destroy();
    expect(await run.code).toBe(141);
    await expectNothingLeft(run.child.pid as number, run.temporary);
    const left = readdirSync(path.join(folder(), "runs", "head"));
    expect(left).toContain("rounds");
    expect(left).not.toContain("lock");
  });

  test("after a second Ctrl-C, which ends the run immediately", async () => {
    const run = startLongRun("twice");
    await run.until("client-fit");
    run.child.kill("SIGINT");
    run.child.kill("SIGINT");
    expect(await run.code).toBe(130);
    await expectNothingLeft(run.child.pid as number, run.temporary);
  });

  test("after kill -9 of the controller, mid-round and while workers start", async () => {
    for (const event of ["client-fit", "phase-start"]) {
      const run = startLongRun(`killed-at-${event}`);
      await run.until(event);
      run.child.kill("SIGKILL");
      await run.code;
      await expectNothingLeft(run.child.pid as number, run.temporary);
    }
  });
});

test("the command line tells its version, the help of a command, and that there is no such command", () => {
  for (const mistaken of [prelort("rnu"), prelort("rnu", "--help")]) {
    expect(mistaken.code).toBe(2);
    expect(mistaken.output).toMatch(/unknown command 'rnu'[^]*\brun\b/);
  }
  expect(prelort("run", "--help").output).toContain("prelort run");
  expect(prelort("--version").output.trim()).toBe(JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")).version);
});
