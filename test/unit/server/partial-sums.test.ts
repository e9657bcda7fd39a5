import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, describe, expect, it, vi } from "vitest";
import {
  federate,
  fedIt,
  fedSvd,
  ffaLora,
  randomComponents,
  segmentWise,
  withServerOptimizer,
  withUpdateBound,
  zeroPadDeltas,
  zeroPadWeights,
} from "../../../src/index.ts";
import { tinyLauncher, tinyRun, type TinyRunOptions } from "../../../src/testing/index.ts";
import type { Aggregation, RunEvent, WorkerLauncher } from "../../../src/index.ts";
import { watchSums } from "../../support/merged-sums.ts";
import type { PartialSum } from "../../../src/strategy/strategy.ts";
import { tieredRanks } from "../../../src/strategy/ranks/tiered.ts";

const root = mkdtempSync(path.join(tmpdir(), "prelort-partial-sums-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let runs = 0;

/** SHA-256 of every round's adapter and of the metrics of a run. */
async function bytesOf(options: Partial<TinyRunOptions> & Pick<TinyRunOptions, "partialSums">): Promise<readonly string[]> {
  const name = `run-${++runs}`;
  let sums = 0;
  const aggregation = watchSums(options.strategy?.aggregation ?? segmentWise(), () => sums++);
  await federate(tinyRun({ runsDir: root, name, seed: 7, ...options, strategy: { ...options.strategy, aggregation } })).result;
  // Otherwise the comparison would be of two runs that send every update.
  expect(sums > 0).toBe(options.partialSums !== false);
  return readBytes(name);
}

function readBytes(name: string): readonly string[] {
  const folder = path.join(root, name);
  const rounds = readdirSync(path.join(folder, "rounds"))
    .toSorted()
    .map((round) => path.join("rounds", round, "global.safetensors"));
  return [...rounds, "metrics.jsonl"].map((file) =>
    createHash("sha256")
      .update(readFileSync(path.join(folder, file)))
      .digest("hex"),
  );
}

const aggregations = {
  "segment-wise": segmentWise(),
  "segment-wise with equal weights": segmentWise({ weights: "uniform" }),
  "segment-wise with at least two clients a segment": segmentWise({ minContributors: 2 }),
  "segment-wise with a clipped norm": segmentWise({ robust: { name: "clip", norm: 0.05 } }),
  "zero-padded weights": zeroPadWeights(),
  "zero-padded deltas with momentum": withServerOptimizer(zeroPadDeltas(), { name: "momentum" }),
  "ffa-lora": ffaLora(),
  fedsvd: fedSvd(),
  "random components": randomComponents(),
  "a bound on updates": withUpdateBound(segmentWise(), { factor: 1.5 }),
};

describe("a run with partial sums has the bytes of one that sends every update", () => {
  it.each(Object.entries(aggregations))("with %s", async (_, aggregation) => {
    const strategy = { aggregation } satisfies TinyRunOptions["strategy"];
    const each = await bytesOf({ partialSums: false, strategy });
    expect(new Set(each).size).toBe(each.length);
    expect(await bytesOf({ partialSums: true, strategy })).toEqual(each);
    expect(await bytesOf({ partialSums: { every: 1, encoding: "f64" }, strategy })).toEqual(each);
  });

  it("with fedit, whose clients have one rank", async () => {
    const strategy = { aggregation: fedIt(), rankAssignment: tieredRanks({ 8: 1 }) } satisfies TinyRunOptions["strategy"];
    expect(await bytesOf({ partialSums: true, strategy })).toEqual(await bytesOf({ partialSums: false, strategy }));
  });

  it.each([
    [1, 3],
    [2, 2],
    [3, 1],
    [4, 16],
  ])("with %i workers and %i clients a sum", async (count, every) => {
    const workers = { count, devices: ["cpu" as const] };
    expect(await bytesOf({ partialSums: { every }, workers })).toEqual(await bytesOf({ partialSums: false, workers }));
  });
});

/** Small enough for one run at each of its events. */
const small = {
  rounds: 2,
  data: { path: "prelort/testing", label: "label", evalExamples: 8, clients: 5 },
  partialSums: { every: 2 },
} as const;

describe("nobody is counted twice or left out", () => {
  it("if a worker is killed at any point of the exchange", async () => {
    const expected = await bytesOf({ ...small, partialSums: false });
    const kinds = new Set<string>();
    for (let n = 0, isOver = false; !isOver; n++) {
      const name = `killed-${n}`;
      const processes = new Map<string, ReturnType<WorkerLauncher["launch"]>>();
      const inner = tinyLauncher();
      const launcher: WorkerLauncher = {
        launch(options) {
          const process = inner.launch(options);
          processes.set(options.workerId, process);
          return process;
        },
      };
      const run = federate(tinyRun({ runsDir: root, name, seed: 7, ...small, launcher }));
      let events = 0;
      isOver = true;
      for await (const event of run) {
        if (event.type !== "worker-status" || !event.task?.round || events++ !== n) continue;
        isOver = false;
        kinds.add(event.task.kind);
        processes.get(event.workerId)?.kill();
      }
      expect(readBytes(name), `killed at status ${n}`).toEqual(expected);
    }
    expect([...kinds]).toEqual(expect.arrayContaining(["fit", "collect"]));
  });

  it("if a client's update has a value that is too large", async () => {
    const launcher = tinyLauncher({
      async fit(fit) {
        const update = await fit.train();
        return fit.clientId === "c3" ? { ...update, rows: update.rows.fill(fit.round === 1 ? 65 : Number.NaN, 2, 3) } : update;
      },
    });
    const workers = { count: 1, devices: ["cpu" as const] };
    expect(await bytesOf({ launcher, workers, partialSums: true })).toEqual(await bytesOf({ launcher, workers, partialSums: false }));
  });

  it("if a client ends its worker at each of many attempts", async () => {
    const reportedWith = async (partialSums: boolean) => {
      const name = `poison-${partialSums}`;
      const latest: ReturnType<WorkerLauncher["launch"]>[] = [];
      const inner = tinyLauncher({
        fit(fit) {
          if (fit.clientId !== "c6") return fit.train();
          latest.at(-1)?.kill();
          return new Promise(() => {});
        },
      });
      const launcher: WorkerLauncher = {
        launch(options) {
          const process = inner.launch(options);
          latest.push(process);
          return process;
        },
      };
      const workers = { count: 1, devices: ["cpu" as const], retries: 12 };
      await federate(tinyRun({ runsDir: root, name, rounds: 1, seed: 7, launcher, workers, partialSums })).result;
      return readBytes(name);
    };
    expect(await reportedWith(true)).toEqual(await reportedWith(false));
  });

  it("if the run is interrupted at any of its events and resumed", async () => {
    const expected = await bytesOf({ ...small, partialSums: false });
    let restored = 0;
    for (let n = 0, isOver = false; !isOver; n++) {
      const options = { runsDir: root, name: `resumed-${n}`, seed: 7, ...small };
      const interruption = new AbortController();
      const run = federate(tinyRun({ ...options, signal: interruption.signal }));
      isOver = await leaveAt(run, interruption, n);
      if (!isOver) await federate(tinyRun({ ...options, resume: true })).result;
      expect(readBytes(options.name), `interrupted at event ${n}`).toEqual(expected);
      const journal = readFileSync(path.join(root, options.name, "journal.jsonl"), "utf8");
      restored += journal.split('"is_restored":true').length - 1;
    }
    expect(restored).toBeGreaterThan(0);
  });
});

it("a killed run whose sums are more than its round waits for can be resumed", async () => {
  const options = { name: "closing", seed: 7, ...small, rounds: 1, closing: { enough: 0.2 }, partialSums: { every: 1 } } as const;
  const killed = path.join(root, "killed");
  const whole = segmentWise();
  /** Copies the run, as it would be after a kill, while sums are being added that are on disk. */
  const aggregation: Aggregation = {
    ...whole,
    begin(context) {
      const inner = whole.begin(context);
      const { partialSums } = inner;
      const merge = async (sum: PartialSum) => {
        while (readdirSync(path.join(root, "closing", "updates")).length < 2) await delay(1);
        if (!existsSync(killed)) cpSync(path.join(root, "closing"), path.join(killed, "closing"), { recursive: true });
        await partialSums?.merge(sum);
      };
      return { ...inner, ...(partialSums && { partialSums: { ...partialSums, merge } }) };
    },
  };
  await federate(tinyRun({ runsDir: root, ...options, strategy: { aggregation } })).result;
  await federate(tinyRun({ runsDir: killed, ...options, resume: true })).result;
  expect(readFileSync(path.join(killed, "closing", "journal.jsonl"), "utf8")).toMatch(/"close".*"reported":\["c\d"\]/);
});

it.each([false, true])("what a round needed is let go after it, with partial sums %s", async (partialSums) => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const adapters: WeakRef<object>[] = [];
  const alive = () => {
    collectGarbage();
    return adapters.slice(0, 6).filter((adapter) => adapter.deref()).length;
  };
  const whole = segmentWise();
  const aggregation: Aggregation = {
    ...whole,
    begin(context) {
      adapters.push(new WeakRef(context.global.rows));
      const inner = whole.begin(context);
      const finish = async () => {
        // Its workers live.
        if (context.round === 8) await vi.waitFor(() => expect(alive()).toBe(0), { timeout: 20_000 });
        return inner.finish();
      };
      return { ...inner, finish };
    },
  };
  const name = `let-go-${partialSums}`;
  await federate(tinyRun({ runsDir: root, name, ...small, rounds: 8, partialSums, strategy: { aggregation } })).result;
});

describe("an own aggregation that adds up, but wrongly, ends the run with an error that names it", () => {
  const whole = segmentWise();
  const returning = (changes: object): Aggregation => ({
    ...whole,
    policy: { name: "mine" },
    begin(context) {
      const inner = whole.begin(context);
      return { ...inner, partialSums: { ...inner.partialSums, ...changes } } as ReturnType<Aggregation["begin"]>;
    },
  });
  it.each<[string, object, string]>([
    ["a weight of 0", { weigh: () => 0 }, "mine's weigh() of client"],
    ["a weight that is no number", { weigh: () => Number.NaN }, "mine's weigh() of client"],
    ["no weight", { weigh: () => {} }, "mine's weigh() of client"],
    ["a promise of a weight", { weigh: async () => 1 }, "mine's weigh() of client"],
    ["a resolution that is no power of two", { resolution: 1000 }, "mine's begin() of round 1"],
    ["no largest value", { largestValue: Number.NaN }, "mine's begin() of round 1"],
    ["no merge", { merge: undefined }, "mine's begin() of round 1"],
  ])("%s", async (name, changes, subject) => {
    const strategy = { aggregation: returning(changes) };
    const run = federate(tinyRun({ runsDir: root, name: name.replaceAll(" ", "-"), ...small, strategy }));
    await expect(run.result).rejects.toMatchObject({ kind: "run", message: expect.stringContaining(subject) });
  });
});

/** Interrupts a run at its nth event in training. Resolves with whether it ended before. */
async function leaveAt(run: AsyncIterable<RunEvent>, interruption: AbortController, n: number): Promise<boolean> {
  let events = 0;
  try {
    for await (const event of run) {
      const isTraining = event.type === "client-fit" || (event.type === "worker-status" && event.task?.round !== undefined);
      if (isTraining && events++ === n) interruption.abort();
    }
    return !interruption.signal.aborted;
  } catch (error) {
    if (interruption.signal.aborted) return false;
    throw error;
  }
}
