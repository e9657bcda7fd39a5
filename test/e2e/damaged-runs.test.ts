import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { beforeAll, describe, expect, test } from "vitest";
import {
  allClients,
  ConfigError,
  exportRun,
  federate,
  type FederateOptions,
  listRanks,
  processLauncher,
  RunFailedError,
  type RunEvent,
  segmentWise,
  verifyRun,
  writeReport,
} from "../../src/index.ts";
import { readRun } from "../../src/records/read-run.ts";
import { cli, keepLines, readLines, root, temporaryFolder } from "../support/e2e.ts";
import { sharedWorkers } from "../support/shared-workers.ts";

// Runs with a worker that starts at once, then altered on disk.

const folder = temporaryFolder();
const ROUNDS = 4;
const launcher = processLauncher({ command: process.execPath, args: [path.join(root, "test/fixtures/other-worker.mjs")] });
const pool = sharedWorkers({ launcher });
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
    recordUpdates: true,
    pool: pool(),
  };
}

beforeAll(async () => {
  const points = Array.from({ length: 80 }, (_, index) => JSON.stringify({ x: [index % 7, index % 5, 1], cloud: "ab"[index % 2] }));
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

const exportBeside = (directory: string) => exportRun(directory, { out: `${directory}-exported` });

/** The message of the error of that kind with which it rejects. */
async function refusalOf(refused: Promise<unknown>, kind: typeof ConfigError | typeof RunFailedError): Promise<string> {
  const error: unknown = await refused.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(kind);
  return (error as Error).message;
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

describe("a finished run", () => {
  test("without rounds/ keeps its metrics, and resume fails and names the missing file", () => {
    const directory = copied("no-rounds");
    rmSync(path.join(directory, "rounds"), { recursive: true });
    const before = readFileSync(path.join(directory, "metrics.jsonl"), "utf8");
    const { status, output } = prelort("resume", directory);
    expect([status, output]).toEqual([1, expect.stringMatching(/rounds\/4\/global\.safetensors/)]);
    expect(readFileSync(path.join(directory, "metrics.jsonl"), "utf8")).toBe(before);
    expect(before.trimEnd().split("\n")).toHaveLength(ROUNDS + 1);
  });

  test.each([
    ["empty", 0],
    ["cut", 5],
  ])("is neither verified nor exported when its journal is %s", async (how, lines) => {
    const directory = copied(`journal-${how}`);
    keepLines(path.join(directory, "journal.jsonl"), lines);
    for (const command of [verifyRun, exportBeside]) {
      const message = await refusalOf(command(directory), RunFailedError);
      expect(message).toMatch(/\b4\b.*\bjournal\b/);
    }
    // A round that the journal still names can be exported.
    if (lines > 0) expect(await exportRun(directory, { round: 0, out: `${directory}-0` })).toMatchObject({ round: 0 });
  });

  test("without its adapters writes them again, byte for byte, without a worker", async () => {
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

  test("with a damaged line of metrics evaluates that round again, byte for byte", async () => {
    const directory = copied("damaged-line");
    const metrics = path.join(directory, "metrics.jsonl");
    const whole = readFileSync(metrics, "utf8");
    editLine(metrics, 3, (line) => line.slice(0, -1));
    const rounds = await verifyRun(directory);
    expect(rounds.map(({ problems }) => problems.length)).toEqual([0, 0, 1, 0, 0]);
    expect(rounds[2]).toMatchObject({
      isAdapterVerified: true,
      problems: [expect.stringMatching(/metrics\.jsonl\b.*\b3\b.*prelort resume/)],
    });
    await expect(readRun(directory)).rejects.toThrow(/metrics\.jsonl:3\b.*prelort resume/);

    const events = await resume("damaged-line");
    const start = events.find((event) => event.type === "run-start");
    expect(start?.resumed?.remarks).toContainEqual(expect.stringMatching(/metrics\.jsonl\b.*\b2\b/));
    expect(events.flatMap((event) => (event.type === "round-end" ? [event.round] : []))).toEqual([2]);
    expect(readFileSync(metrics, "utf8")).toBe(whole);
    expect((await verifyRun(directory)).flatMap(({ problems }) => problems)).toEqual([]);
  });
});

test("an interrupted run reports that its last round is damaged, and repeats it byte for byte", async () => {
  const directory = copied("broken-off");
  const journal = path.join(directory, "journal.jsonl");
  writeFileSync(journal, readFileSync(journal, "utf8").replace('{"type":"end"}\n', ""));
  const last = path.join(directory, "rounds", `${ROUNDS}`, "global.safetensors");
  const bytes = readFileSync(last);
  writeFileSync(last, Buffer.from(bytes).fill(7, bytes.length - 1));
  const whole = readFileSync(path.join(directory, "metrics.jsonl"), "utf8");
  const start = (await resume("broken-off")).find((event) => event.type === "run-start");
  expect(start?.resumed?.after).toBe(ROUNDS - 1);
  expect(start?.resumed?.remarks).toEqual([expect.stringMatching(/rounds\/4\/global\.safetensors\b.*\b3\b/)]);
  expect(readFileSync(last)).toEqual(bytes);
  expect(readFileSync(path.join(directory, "metrics.jsonl"), "utf8")).toBe(whole);
});

test("a round that starts from another adapter does not reuse leftover fits", async () => {
  const directory = copied("left-over");
  const journal = path.join(directory, "journal.jsonl");
  const lines = readFileSync(journal, "utf8").split("\n");
  const isCommit = (line: string) => line.includes('"commit","round":3');
  writeFileSync(journal, `${lines.slice(0, lines.findIndex(isCommit) + 1).join("\n")}\n`);
  // Metrics are written after their round is committed.
  keepLines(path.join(directory, "metrics.jsonl"), 4);
  // Leave the updates of a run that trained from another adapter.
  await federate({ ...options("another"), seed: 6 }).result;
  rmSync(path.join(directory, "updates", "4"), { recursive: true });
  cpSync(at("another", "updates", "4"), path.join(directory, "updates", "4"), { recursive: true });
  await resume("left-over");
  const fits = readLines(directory, "journal.jsonl").filter(({ type, round }) => type === "fit" && round === 4);
  expect(fits.map((fit) => fit["is_restored"])).toEqual([false, false, false]);
  const adapter = (run: string) => readFileSync(at(run, "rounds", "4", "global.safetensors"));
  expect(adapter("left-over")).toEqual(adapter("finished"));
});

describe("a run that ended before its data was ready is refused", () => {
  beforeAll(async () => {
    const missing = { ...options("unready"), data: { ...options("unready").data, path: path.join(folder(), "nothing.jsonl") } };
    await expect(federate(missing).result).rejects.toThrow();
  });

  test.each([
    ["report", writeReport],
    ["export", exportBeside],
    ["verify", verifyRun],
  ])("by %s", async (_, command) => {
    expect(await refusalOf(command(at("unready")), ConfigError)).toMatch(/\bunready\b.*prelort resume/);
  });

  test("by evaluate", () => {
    const { status, output } = prelort("evaluate", at("unready"));
    expect([status, output]).toEqual([2, expect.stringMatching(/\bunready\b.*prelort resume/)]);
  });
});

describe("a run directory from elsewhere", () => {
  const record = (directory: string, edit: (record: { name: string; config: { workers: object; model: object } }) => void): void => {
    const file = path.join(directory, "run.json");
    const found = JSON.parse(readFileSync(file, "utf8")) as { name: string; config: { workers: object; model: object } };
    edit(found);
    writeFileSync(file, JSON.stringify(found));
  };

  test("does not choose where an export is written: it is named after the directory", async () => {
    const directory = copied("renamed");
    record(directory, (found) => (found.name = "../outside"));
    const { status } = prelort("export", directory);
    expect(status).toBe(0);
    expect(readdirSync(path.join(folder(), "renamed-r2"))).toContain("adapter_config.json");
  });

  test("does not choose a program: the user must name each one that its record names", async () => {
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
        expect(output).toContain(`--set ${key}`);
    }
    const merged = exportRun(directory, { merge: true, out: path.join(folder(), "merged") });
    await expect(merged).rejects.toThrow(/--python [^]*--task-folder [^]*--trust-remote-code/);
    expect(readdirSync(folder())).not.toContain("was-run");
  });

  test("is not written through its symbolic links", async () => {
    const directory = copied("linked");
    const outside = path.join(folder(), "outside.html");
    writeFileSync(outside, "mine");
    rmSync(path.join(directory, "report.html"), { force: true });
    symlinkSync(outside, path.join(directory, "report.html"));
    expect(await writeReport(directory)).toBe(path.join(directory, "report.html"));
    expect(readFileSync(outside, "utf8")).toBe("mine");
    mkdirSync(at("empty"));
    expect(await refusalOf(writeReport(at("empty")), ConfigError)).toMatch(/\bempty\b.*run\.json/);
  });
});
