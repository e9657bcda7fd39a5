import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import {
  federate,
  fedIt,
  ffaLora,
  segmentWise,
  withServerOptimizer,
  withUpdateBound,
  zeroPadDeltas,
  zeroPadWeights,
} from "../../../src/index.ts";
import { tinyLauncher, tinyRun, type TinyRunOptions } from "../../../src/testing/index.ts";
import type { RunEvent, WorkerLauncher } from "../../../src/index.ts";
import { tieredRanks } from "../../../src/strategy/ranks/tiered.ts";

const root = mkdtempSync(path.join(tmpdir(), "prelort-partial-sums-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let runs = 0;

/** SHA-256 of every round's adapter and of the metrics of a run. */
async function bytesOf(options: Partial<TinyRunOptions> & Pick<TinyRunOptions, "partialSums">): Promise<readonly string[]> {
  const name = `run-${++runs}`;
  const run = federate(tinyRun({ runsDir: root, name, seed: 7, ...options }));
  let collections = 0;
  for await (const event of run) if (event.type === "worker-status" && event.task?.kind === "collect") collections++;
  // Otherwise the comparison would be of two runs that send every update.
  expect(collections > 0).toBe(options.partialSums !== false);
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
