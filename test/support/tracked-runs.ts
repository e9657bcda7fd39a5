import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { expect, onTestFinished } from "vitest";
import { readMetrics, type RoundMetrics } from "../../src/records/metrics.ts";
import { packageRoot, trackerPython } from "../../src/installation.ts";
import type { RunEvent } from "../../src/server/events.ts";
import { federate, type FederateOptions } from "../../src/server/federate.ts";
import type { Selection } from "../../src/strategy/strategy.ts";
import { tinyRun } from "../../src/testing/tiny-run.ts";
import { eventually } from "./patience.ts";
import { freePort } from "./roads.ts";

/* Runs that are delivered to real trackers, and what these hold afterwards. */

export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), "prelort-track-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A selection of all clients that does something before a round begins. */
export function before(round: number, act: () => Promise<unknown>): Selection {
  return async ({ round: now, clients }) => {
    if (now === round) await act();
    return clients.map(({ id }) => id);
  };
}

/**
 * Runs to the end, and returns what was said of the trackers. What a slow machine could not deliver within the grace is delivered
 * then, if `isWaiting`.
 */
export async function runTracked(options: Omit<Parameters<typeof tinyRun>[0], "track"> & Pick<FederateOptions, "track">, isWaiting = true) {
  const run = federate(tinyRun(options));
  const told: RunEvent[] = [];
  for await (const event of run) if (event.type === "tracker-status") told.push(event);
  const { directory, sha256 } = await run.result;
  const isIncomplete = told.some((event) => event.type === "tracker-status" && event.state === "incomplete");
  if (isWaiting && isIncomplete) expect(await trackCli(directory)).toMatchObject({ code: 0 });
  return { directory, sha256, told: told.flatMap((event) => (event.type === "tracker-status" ? [event] : [])) };
}

/** What `metrics.jsonl` says, under the names that trackers are given. Written out here anew, and not by the code that is tested. */
export async function expectedMetrics(directory: string): Promise<Record<string, Record<string, number>>> {
  const { lines } = await readMetrics(path.join(directory, "metrics.jsonl"));
  const rounds = lines.flatMap(({ metrics }) => (metrics ? [metrics] : []));
  return Object.fromEntries(rounds.map((metrics) => [metrics.round, namesOf(metrics)]));
}

function namesOf({ byTier, energy, coverage, fitLoss, ...metrics }: RoundMetrics): Record<string, number> {
  const found: Record<string, number | null> = {
    "fit/loss": fitLoss,
    "fit/passes": metrics.passes,
    "clients/reported": metrics.reported.length,
    "clients/failed": metrics.failed.length,
    "clients/late": metrics.late.length,
    "bytes/down": metrics.bytesDown,
    "bytes/up": metrics.bytesUp,
  };
  for (const { r, loss, accuracy, macroF1, ece } of byTier) {
    found[`tier/${r}/loss`] = loss;
    found[`tier/${r}/accuracy`] = accuracy;
    found[`tier/${r}/macro_f1`] = macroF1;
    found[`tier/${r}/ece`] = ece;
  }
  for (const { r, energy: value } of energy) found[`segment/${r}/energy`] = value;
  for (const { r, clients, examples } of coverage) {
    found[`segment/${r}/contributors`] = clients;
    found[`segment/${r}/examples`] = examples;
  }
  return Object.fromEntries(Object.entries(found).flatMap(([name, value]) => (value === null ? [] : [[name, value] as const])));
}

/** Every value that a tracker holds, read by its own reader: `values[step][name]` lists them all, so that a second one shows. */
export interface Held {
  readonly runs: readonly string[];
  readonly values: Record<string, Record<string, readonly number[]>>;
  /** `samples[step][name]` in the tracker's own form. */
  readonly samples: Record<string, Record<string, readonly unknown[]>>;
  readonly best: Record<string, readonly number[]>;
  readonly params: Record<string, string>;
  readonly tags: Record<string, string>;
  readonly state: string | null;
}

export async function readBack(tracker: string, ...words: readonly string[]): Promise<Held> {
  const script = path.join(packageRoot(), "test/trackers/read_back.py");
  const { stdout } = await promisify(execFile)(trackerPython(tracker), [script, tracker, ...words], { maxBuffer: 2 ** 28 });
  return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Held;
}

/** The tracker holds each value of the run once, and nothing else. */
export async function expectOnce(held: Held, directory: string, round: (value: number) => number = (value) => value): Promise<void> {
  const expected = await expectedMetrics(directory);
  expect(Object.keys(expected).length).toBeGreaterThan(2);
  const once = Object.entries(expected).map(([step, metrics]) => [
    step,
    Object.fromEntries(Object.entries(metrics).map(([name, value]) => [name, [round(value)]])),
  ]);
  expect(held.values).toEqual(Object.fromEntries(once));
}

/** Process ids of a tracker that delivers a run. */
export function trackersOf(directory: string): number[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const words = readFileSync(`/proc/${name}/cmdline`, "utf8");
      return words.includes("prelort_worker.tracking") && words.includes(directory) ? [Number(name)] : [];
    } catch {
      return [];
    }
  });
}

/** `prelort track`, from src as a test has it. */
export function trackCli(...words: readonly string[]): Promise<{ readonly code: number; readonly output: string }> {
  return trackCliIn(process.cwd(), ...words);
}

/** As trackCli, with another working folder. */
export async function trackCliIn(cwd: string, ...words: readonly string[]): Promise<{ readonly code: number; readonly output: string }> {
  const child = spawn(process.execPath, [path.join(packageRoot(), "dist/cli/main.js"), "track", ...words], { cwd, stdio: "pipe" });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
  const [code] = (await once(child, "close")) as [number];
  return { code, output };
}

/** MLflow's own server, with its store in a folder, so that one started again has what the last one had. */
export class MlflowServer {
  readonly #folder: string;
  readonly #port: number;
  #pid = 0;

  private constructor(folder: string, port: number) {
    this.#folder = folder;
    this.#port = port;
  }

  static async open(): Promise<MlflowServer> {
    return new MlflowServer(await mkdtemp(path.join(tmpdir(), "prelort-mlflow-")), await freePort());
  }

  async close(): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Does nothing while it runs. */
  async start(): Promise<void> {
    if (this.#pid !== 0) return;
    const store = `sqlite:///${path.join(this.#folder, "store.db")}`;
    const words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", `${this.#port}`, "--workers", "1"];
    const child = spawn(trackerPython("mlflow"), [...words, "--backend-store-uri", store, "--artifacts-destination", this.#folder], {
      cwd: this.#folder,
      // Eight processes for what no test needs.
      env: { ...process.env, MLFLOW_SERVER_ENABLE_JOB_EXECUTION: "false" },
      stdio: "ignore",
      detached: true,
    });
    this.#pid = child.pid ?? 0;
    await eventually(async () => expect((await fetch(`${this.url}/health`)).status).toBe(200));
  }

  /** The rounds of the only run of an experiment, by the server's REST API. */
  async rounds(experiment: string): Promise<readonly number[]> {
    const ask = async (what: string, body?: object) => {
      const request = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
      const response = await fetch(`${this.url}/api/2.0/mlflow/${what}`, request);
      expect(response.status).toBe(200);
      return (await response.json()) as never;
    };
    const found: { experiment: { experiment_id: string } } = await ask(`experiments/get-by-name?experiment_name=${experiment}`);
    const { runs }: { runs: readonly { info: { run_id: string } }[] } = await ask("runs/search", {
      experiment_ids: [found.experiment.experiment_id],
    });
    const history: { metrics?: readonly { step?: number | string }[] } = await ask(
      `metrics/get-history?run_id=${runs[0]?.info.run_id}&metric_key=bytes/up`,
    );
    return (history.metrics ?? []).map(({ step = 0 }) => Number(step));
  }

  /** With all its processes, at once. */
  async kill(): Promise<void> {
    if (this.#pid === 0) return;
    try {
      process.kill(-this.#pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
    this.#pid = 0;
    await eventually(() => expect(fetch(`${this.url}/health`)).rejects.toThrow());
  }
}
