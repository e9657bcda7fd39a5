import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { beforeAll, describe, expect, test } from "vitest";
import {
  allClients,
  exportRun,
  federate,
  type FederateOptions,
  listRanks,
  processLauncher,
  type RunEvent,
  segmentWise,
  verifyRun,
} from "../../src/index.ts";
import { readRun } from "../../src/records/read-run.ts";
import { cli, keepLines, readLines, root, temporaryFolder } from "../support/e2e.ts";

// Runs of a worker that starts at once, and what is left of them on disk.

const folder = temporaryFolder();
const ROUNDS = 4;
const launcher = processLauncher({ command: process.execPath, args: [path.join(root, "test/fixtures/other-worker.mjs")] });
const at = (...parts: string[]) => path.join(folder(), "runs", ...parts);

function options(name: string): FederateOptions {
  return {
    name,
    runsDir: at(),
    seed: 5,
    rounds: ROUNDS,
    model: { nameOrPath: "softmax-regression", task: "points:Softmax", taskFolder: folder() },
    lora: { r: 2, tiers: [1, 2], target_modules: ["linear"] },
    data: { path: path.join(folder(), "points.jsonl"), label: "cloud", evalExamples: 20, clients: 3 },
    strategy: { selection: allClients(), rankAssignment: listRanks([2, 1, 1]), aggregation: segmentWise() },
    fit: { objective: "none", localSteps: 5, batchSize: 8, lr: 0.1 },
    evaluate: { shardSize: 10 },
    workers: { count: 1 },
    recordUpdates: true,
    launcher,
  };
}

beforeAll(async () => {
  const points = Array.from({ length: 80 }, (_, place) => JSON.stringify({ x: [place % 7, place % 5, 1], cloud: "ab"[place % 2] }));
  writeFileSync(path.join(folder(), "points.jsonl"), `${points.join("\n")}\n`);
  await federate(options("finished")).result;
});

/** A copy of the finished run, under another name. */
function copied(name: string): string {
  cpSync(at("finished"), at(name), { recursive: true });
  return at(name);
}

function prelort(...args: string[]): { readonly status: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { cwd: folder(), encoding: "utf8" });
  return { status, output: stdout + stderr };
}

function editLine(file: string, number: number, edit: (line: string) => string): void {
  const lines = readFileSync(file, "utf8").split("\n");
  writeFileSync(file, lines.map((line, index) => (index === number - 1 ? edit(line) : line)).join("\n"));
}

async function resume(name: string): Promise<readonly RunEvent[]> {
  const run = federate({ ...options(name), resume: true });
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  await run.result;
  return events;
}

describe("a run that had ended", () => {
  test("without rounds/ keeps its figures, and its resume fails with the file that is missing", () => {
    const directory = copied("no-rounds");
    rmSync(path.join(directory, "rounds"), { recursive: true });
    const before = readFileSync(path.join(directory, "metrics.jsonl"), "utf8");
    const { status, output } = prelort("resume", directory);
    expect([status, output]).toEqual([1, expect.stringMatching(/ended after round 4, and rounds\/4\/global\.safetensors is missing/)]);
    expect(readFileSync(path.join(directory, "metrics.jsonl"), "utf8")).toBe(before);
    expect(before.trimEnd().split("\n")).toHaveLength(ROUNDS + 1);
  });

  test.each([
    ["gone", 0],
    ["cut", 5],
  ])("is neither verified nor exported by a journal that is %s", (how, lines) => {
    const directory = copied(`journal-${how}`);
    keepLines(path.join(directory, "journal.jsonl"), lines);
    for (const command of ["verify", "export"]) {
      const { status, output } = prelort(command, directory);
      expect([status, output]).toEqual([1, expect.stringMatching(/holds round 4: lines are missing from the journal/)]);
    }
    // What it does name can be had by its number.
    if (lines > 0) expect(prelort("export", directory, "--round", "0", "--out", `${directory}-0`).status).toBe(0);
  });

  test("without its adapters has them written again, to the same bytes, without a worker", async () => {
    const directory = copied("no-adapters");
    const file = path.join(directory, "adapters", "r2", "adapter_model.safetensors");
    const whole = readFileSync(file);
    rmSync(path.join(directory, "adapters"), { recursive: true });
    const events = await resume("no-adapters");
    expect(readFileSync(file).equals(whole)).toBe(true);
    const end = events.at(-1);
    expect(end?.type === "run-end" && end.adapters.map((adapter) => readdirSync(adapter).length)).toEqual([2, 2]);
    expect(events.map(({ type }) => type)).not.toContain("worker-ready");
  });

  test("with a damaged line of figures has its round evaluated again, to the same bytes", async () => {
    const directory = copied("damaged-line");
    const metrics = path.join(directory, "metrics.jsonl");
    const whole = readFileSync(metrics, "utf8");
    editLine(metrics, 3, (line) => line.slice(0, -1));
    const rounds = await verifyRun(directory);
    expect(rounds.map(({ problems }) => problems.length)).toEqual([0, 0, 1, 0, 0]);
    expect(rounds[2]?.problems[0]).toBe(
      "adapter as committed; its metrics are missing (metrics.jsonl is damaged at line 3); prelort resume evaluates the round again",
    );
    await expect(readRun(directory)).rejects.toThrow(
      /metrics\.jsonl:3 is damaged: it is not JSON; prelort resume evaluates its round again/,
    );

    const events = await resume("damaged-line");
    const start = events.find((event) => event.type === "run-start");
    expect(start?.resumed?.remarks).toContain("metrics.jsonl has no line for round 2: its adapter is evaluated again");
    expect(events.flatMap((event) => (event.type === "round-end" ? [event.round] : []))).toEqual([2]);
    expect(readFileSync(metrics, "utf8")).toBe(whole);
    expect((await verifyRun(directory)).flatMap(({ problems }) => problems)).toEqual([]);
  });
});

test("a run that was broken off says that its last round is damaged, and makes it again to the same bytes", async () => {
  const directory = copied("broken-off");
  const journal = path.join(directory, "journal.jsonl");
  writeFileSync(journal, readFileSync(journal, "utf8").replace('{"type":"end"}\n', ""));
  const last = path.join(directory, "rounds", `${ROUNDS}`, "global.safetensors");
  const bytes = readFileSync(last);
  writeFileSync(last, Buffer.from(bytes).fill(7, bytes.length - 1));
  const whole = readFileSync(path.join(directory, "metrics.jsonl"), "utf8");
  const start = (await resume("broken-off")).find((event) => event.type === "run-start");
  expect(start?.resumed?.after).toBe(ROUNDS - 1);
  expect(start?.resumed?.remarks).toEqual([expect.stringMatching(/^rounds\/4\/global\.safetensors is damaged .* continues from round 3/)]);
  expect(readFileSync(last)).toEqual(bytes);
  expect(readFileSync(path.join(directory, "metrics.jsonl"), "utf8")).toBe(whole);
});

test("fits that were left over are not taken by a round that begins with another adapter", async () => {
  const directory = copied("left-over");
  const journal = path.join(directory, "journal.jsonl");
  const lines = readFileSync(journal, "utf8").split("\n");
  const isCommit = (line: string) => line.includes('"commit","round":3');
  writeFileSync(journal, `${lines.slice(0, lines.findIndex(isCommit) + 1).join("\n")}\n`);
  // Figures are written after their round is committed.
  keepLines(path.join(directory, "metrics.jsonl"), 4);
  // Those of another run, which had trained from another adapter.
  await federate({ ...options("another"), seed: 6 }).result;
  rmSync(path.join(directory, "updates", "4"), { recursive: true });
  cpSync(at("another", "updates", "4"), path.join(directory, "updates", "4"), { recursive: true });
  await resume("left-over");
  const fits = readLines(directory, "journal.jsonl").filter(({ type, round }) => type === "fit" && round === 4);
  expect(fits.map((fit) => fit["is_restored"])).toEqual([false, false, false]);
  const adapter = (run: string) => readFileSync(at(run, "rounds", "4", "global.safetensors"));
  expect(adapter("left-over")).toEqual(adapter("finished"));
});

describe("a run that ended before its data was ready says so", () => {
  beforeAll(async () => {
    const missing = { ...options("unready"), data: { ...options("unready").data, path: path.join(folder(), "nothing.jsonl") } };
    await expect(federate(missing).result).rejects.toThrow();
  });

  test.each(["report", "export", "verify", "evaluate"])("to %s", (command) => {
    const { status, output } = prelort(command, at("unready"));
    expect([status, output]).toEqual([2, expect.stringMatching(/ended before its data and model were ready.*prelort resume/)]);
  });
});

describe("a run's folder that came from elsewhere", () => {
  const record = (directory: string, edit: (record: { name: string; config: { workers: object; model: object } }) => void): void => {
    const file = path.join(directory, "run.json");
    const found = JSON.parse(readFileSync(file, "utf8")) as { name: string; config: { workers: object; model: object } };
    edit(found);
    writeFileSync(file, JSON.stringify(found));
  };

  test("chooses no place to write to: an export is named for the folder", async () => {
    const directory = copied("renamed");
    record(directory, (found) => (found.name = "../outside"));
    const { status } = prelort("export", directory);
    expect(status).toBe(0);
    expect(readdirSync(path.join(folder(), "renamed-r2"))).toContain("adapter_config.json");
  });

  test("chooses no program: each that it names has to be named by the user", async () => {
    const directory = copied("programs");
    const program = path.join(folder(), "program");
    writeFileSync(program, `#!/bin/sh\ntouch ${path.join(folder(), "was-run")}\n`, { mode: 0o755 });
    record(directory, ({ config }) => {
      config.workers = { ...config.workers, python: program };
      config.model = { ...config.model, task: "tasks:Foreign", task_folder: folder(), trust_remote_code: true };
    });
    for (const command of ["resume", "evaluate"]) {
      const { status, output } = prelort(command, directory);
      expect(status).toBe(2);
      for (const key of [`workers.python=${program}`, `model.task_folder=${folder()}`, "model.trust_remote_code=true"])
        expect(output).toContain(`if you trust it, add --set ${key}`);
    }
    const merged = exportRun(directory, { merge: true, out: path.join(folder(), "merged") });
    await expect(merged).rejects.toThrow(/add --python [^]*add --task-folder [^]*add --trust-remote-code/);
    expect(readdirSync(folder())).not.toContain("was-run");
  });

  test("is not written through its links", async () => {
    const directory = copied("linked");
    const outside = path.join(folder(), "outside.html");
    writeFileSync(outside, "mine");
    rmSync(path.join(directory, "report.html"), { force: true });
    symlinkSync(outside, path.join(directory, "report.html"));
    expect(prelort("report", directory).status).toBe(0);
    expect(readFileSync(outside, "utf8")).toBe("mine");
    mkdirSync(at("empty"));
    expect(prelort("report", at("empty")).output).toMatch(/holds no run: there is no run\.json in it/);
  });
});
