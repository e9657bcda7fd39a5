import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createPool, federate, type RunEvent, type SharedPool, type WorkerLauncher, zeroPadDeltas } from "../../../src/index.ts";
import { cacheFolder } from "../../../src/installation.ts";
import { echo, tinyLauncher, type TinyFit, tinyRun, type TinyRunOptions } from "../../../src/testing/index.ts";

let runsDir: string;
let pool: SharedPool;
let launched: string[];
let fit: (asked: TinyFit) => ReturnType<TinyFit["train"]>;

beforeEach(async () => {
  runsDir = mkdtempSync(path.join(tmpdir(), "prelort-pool-"));
  launched = [];
  fit = ({ train }) => train();
  const tiny = tinyLauncher({ fit: (asked) => fit(asked) });
  const launcher: WorkerLauncher = {
    launch(options) {
      launched.push(options.workerId);
      return tiny.launch(options);
    },
  };
  pool = await createPool({ workers: { count: 2, devices: ["cpu"] }, launcher });
});
afterEach(async () => {
  await pool.close();
  rmSync(runsDir, { recursive: true });
});

/** A run of its own, or with `pool` on the shared workers. */
function start(name: string, more: Omit<TinyRunOptions, "runsDir"> = {}) {
  const { workers, launcher, ...options } = tinyRun({ runsDir, name, seed: 3, ...more });
  return federate(more.pool ? options : { ...options, workers, launcher });
}

async function eventsOf(run: AsyncIterable<RunEvent>): Promise<readonly RunEvent[]> {
  const seen: RunEvent[] = [];
  for await (const event of run) seen.push(event);
  return seen;
}

/** Resolves at the first event of that type. */
async function reach(run: AsyncIterable<RunEvent>, type: RunEvent["type"]): Promise<void> {
  for await (const event of run) if (event.type === type) return;
}

const METHODS = { preLort: undefined, zeroPad: { aggregation: zeroPadDeltas() } } as const;

test("two runs of different methods at once on one pool have the bytes of each alone", async () => {
  const alone = await Promise.all(
    Object.entries(METHODS).map(([name, strategy]) => start(`${name}-alone`, strategy && { strategy }).result),
  );
  expect(alone[0]?.sha256).not.toBe(alone[1]?.sha256);
  const runs = Object.entries(METHODS).map(([name, strategy]) => start(name, { pool, ...(strategy && { strategy }) }));
  const results = await Promise.all(runs.map(({ result }) => result));
  expect(results.map(({ sha256 }) => sha256)).toEqual(alone.map(({ sha256 }) => sha256));
  expect(results.map(({ metrics }) => metrics)).toEqual(alone.map(({ metrics }) => metrics));
  expect(launched).toEqual(["w0", "w1"]);
});

test("a later run finds the workers ready, and another model in them is replaced", async () => {
  const results = [await start("a", { pool }).result, await start("b", { pool, seed: 4 }).result, await start("c", { pool }).result];
  expect(results[1]?.sha256).toBe((await start("b-alone", { seed: 4 }).result).sha256);
  expect(results[2]?.sha256).toBe(results[0]?.sha256);
  expect(launched).toEqual(["w0", "w1"]);
  const ready = (await eventsOf(start("d", { pool }))).filter(({ type }) => type === "worker-ready");
  expect(ready).toMatchObject([{ workerId: "w0" }, { workerId: "w1" }]);
});

test("a run sees only its own tasks", async () => {
  const runs = ["a", "b"].map((name) => start(name, { pool }));
  for (const events of await Promise.all(runs.map(eventsOf))) {
    const tasks = events.flatMap((event) => (event.type === "worker-status" && event.taskId !== null ? [event.taskId] : []));
    expect(tasks.length).toBeGreaterThan(0);
    expect(tasks.filter((id) => !/^(prepare|load|round-\d+\/.*)$/.test(id))).toEqual([]);
  }
});

test("stopping one run leaves the others and the workers as they are", async () => {
  const [stopped, other] = [start("a", { pool, rounds: 1000 }), start("b", { pool })];
  await reach(stopped, "round-end");
  await stopped.stop();
  expect(stopped.state).toBe("interrupted");
  expect((await other.result).sha256).toBe((await start("b-alone").result).sha256);
  expect(launched).toEqual(["w0", "w1"]);
});

test("a worker that fails for one run's client is that run's alone", async () => {
  fit = ({ clientId, train }) => {
    if (clientId === "c0") throw new Error("no memory");
    return train();
  };
  const events = await eventsOf(start("a", { pool }));
  expect(events.filter((event) => event.type === "client-failure" && !event.willRetry)).toMatchObject([
    { clientId: "c0", round: 1 },
    { clientId: "c0", round: 2 },
    { clientId: "c0", round: 3 },
  ]);
  fit = ({ train }) => train();
  expect((await start("b", { pool }).result).sha256).toBe((await start("b-alone").result).sha256);
});

test("a run of another model is refused while one is under way, and what it asks of the workers is listed", async () => {
  const first = start("a", { pool, rounds: 1000 });
  await reach(first, "round-start");
  await expect(start("b", { pool, seed: 4 }).result).rejects.toThrow(/\bpool\b.*\bsame model, lora, data and seed\b/s);
  await first.stop();
  await start("c", { pool, seed: 4 }).result;
  const options = tinyRun({ runsDir, pool, partialSums: true });
  expect(() => federate(options)).toThrow(/workers.*launcher.*partialSums/s);
});

test("closing the pool fails the runs that are under way, and twice is as once", async () => {
  fit = (asked) => Promise.resolve(echo(asked));
  const run = start("a", { pool, rounds: 1000 });
  await reach(run, "round-start");
  await Promise.all([pool.close(), pool.close()]);
  await expect(run.result).rejects.toThrow("closed");
  await expect(start("b", { pool }).result).rejects.toThrow("closed");
  expect(readdirSync(path.join(runsDir, "a"))).not.toContain("lock");
});

test("no folder of logs outlives a pool, or one that could not be made", async () => {
  const logs = path.join(cacheFolder(), "logs");
  const mine = () => readdirSync(logs).filter((name) => name.startsWith("pool-") && name.includes(`-${process.pid}-`));
  await pool.close();
  const none = mine();
  const launcher: WorkerLauncher = {
    launch: () => {
      throw new Error("never");
    },
    open: () => {
      throw new Error("no cluster");
    },
  };
  await expect(createPool({ launcher })).rejects.toThrow("no cluster");
  expect([none, mine()]).toEqual([[], []]);
});

test("wrong workers of a pool are a ConfigError", async () => {
  await expect(createPool({ workers: { count: 0 } })).rejects.toMatchObject({ kind: "config", issues: [{ path: "workers.count" }] });
});
