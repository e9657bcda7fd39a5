import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  federate,
  ffaLora,
  fLoRA,
  InterruptedError,
  powerOfChoiceSelection,
  type RankedClient,
  type RunEvent,
  type RunResult,
  segmentWise,
} from "../../../src/index.ts";
import { echo, tinyLauncher, tinyRun, type TinyRunOptions } from "../../../src/testing/index.ts";

let runsDir: string;
beforeEach(() => {
  runsDir = mkdtempSync(path.join(tmpdir(), "prelort-testing-"));
});
afterEach(() => rmSync(runsDir, { recursive: true }));

function start(options: Omit<TinyRunOptions, "runsDir"> = {}) {
  return federate(tinyRun({ runsDir, ...options }));
}

async function eventsOf(run: AsyncIterable<RunEvent>): Promise<readonly RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  return events;
}

function lossesOf(metrics: RunResult["metrics"][number]): readonly number[] {
  return metrics.byTier.map(({ loss }) => loss ?? Number.NaN);
}

test("a tiny run learns at every tier, where clients train prefixes of one adapter", async () => {
  const { metrics, layout } = await start().result;
  const [before, after] = [metrics[0]!, metrics.at(-1)!];
  expect(metrics.map(({ round }) => round)).toEqual([0, 1, 2, 3]);
  expect(after.byTier.map(({ r }) => r)).toEqual([1, 2, 4, 8]);
  for (const [index, loss] of lossesOf(after).entries()) expect(loss).toBeLessThan(0.9 * lossesOf(before)[index]!);
  expect(after.coverage.map(({ r, clients }) => [r, clients])).toEqual([
    [1, 8],
    [2, 6],
    [4, 4],
    [8, 2],
  ]);
  expect(layout).toMatchObject({ r: 8, width: 16, denseSize: 8 });
});

test("the same seed gives the same bytes with any number of workers, over either transport; another seed gives others", async () => {
  const alone = await start({ workers: { count: 1, devices: ["cpu"] } }).result;
  const many = await start({ workers: { count: 3, devices: ["cpu"], transport: "tcp" } }).result;
  const other = await start({ seed: 1 }).result;
  expect(many.sha256).toBe(alone.sha256);
  expect(other.sha256).not.toBe(alone.sha256);
});

test("an interrupted run that is resumed ends with the bytes of an uninterrupted one", async () => {
  const whole = await start({ name: "whole" }).result;
  const controller = new AbortController();
  const interrupted = start({
    name: "halves",
    signal: controller.signal,
    launcher: tinyLauncher({
      fit({ round, train }) {
        if (round === 2) controller.abort();
        return train();
      },
    }),
  });
  await expect(interrupted.result).rejects.toThrow(InterruptedError);
  const resumed = await start({ name: "halves", resume: true }).result;
  expect(resumed.sha256).toBe(whole.sha256);
  const read = (name: string) => readFileSync(path.join(runsDir, name, "metrics.jsonl"), "utf8");
  expect(read("halves")).toBe(read("whole"));
});

test("a fit that throws fails only that attempt, and the client is left out once its retries are used up", async () => {
  const whole = await start({ name: "whole" }).result;
  const failing = (isFailure: (attempt: number) => boolean) =>
    tinyLauncher({
      fit({ clientId, round, attempt, train }) {
        if (clientId === "c2" && round === 1 && isFailure(attempt)) throw new TypeError("no battery");
        return train();
      },
    });
  const once = start({ launcher: failing((attempt) => attempt === 1) });
  const failures = (await eventsOf(once)).filter(({ type }) => type === "client-failure");
  expect(failures).toMatchObject([{ clientId: "c2", willRetry: true, error: expect.stringContaining("TypeError: no battery") as string }]);
  expect((await once.result).sha256).toBe(whole.sha256);

  const always = await start({ launcher: failing(() => true) }).result;
  expect(always.metrics.map(({ failed }) => failed)).toEqual([[], ["c2"], [], []]);
});

test("echoing workers leave the global adapter as it was", async () => {
  const { metrics } = await start({ launcher: tinyLauncher({ fit: echo }) }).result;
  expect(lossesOf(metrics.at(-1)!)).toEqual(lossesOf(metrics[0]!));
  expect(metrics.at(-1)!.reported).toHaveLength(8);
});

test("a fit may return a dishonest update, which is refused if its values are impossible", async () => {
  const launcher = tinyLauncher({
    async fit({ clientId, train }) {
      const update = await train();
      return clientId === "c0" ? { ...update, rows: update.rows.map(() => 1e9) } : update;
    },
  });
  const { metrics } = await start({ launcher, workers: { count: 2, devices: ["cpu"], retries: 0 } }).result;
  expect(metrics.map(({ failed }) => failed)).toEqual([[], ["c0"], ["c0"], ["c0"]]);
});

test("selections that need losses, held-out examples of clients, merged components and a bfloat16 downlink work without Python", async () => {
  const { metrics } = await start({
    data: { path: "prelort/testing", label: "label", evalExamples: 70, clientEvalExamples: 5, clients: 8 },
    strategy: { selection: powerOfChoiceSelection({ fraction: 0.5, candidates: 6 }), aggregation: fLoRA() },
    wire: { downlink: "bf16" },
  }).result;
  const last = metrics.at(-1)!;
  expect(last.byClient).toHaveLength(8);
  expect(last.byClient[0]).toMatchObject({ examples: 5 });
  expect(last.merged!.loss).toBeLessThan(lossesOf(metrics[0]!).at(-1)!);
});

test("a strategy that freezes A has clients train B alone", async () => {
  const seen: number[] = [];
  const launcher = tinyLauncher({
    async fit({ train }) {
      const { rows, r } = await train();
      for (let row = 0; row < r; row++) seen.push(...rows.subarray(16 * row, 16 * row + 8));
      return { rows, r, dense: new Float32Array(8) };
    },
  });
  await start({ rounds: 1, launcher, strategy: { aggregation: ffaLora() } }).result;
  expect(new Set(seen)).toEqual(new Set([0]));
});

test("an acting tail changes what clients of lower ranks learn, in its share of the steps, and counts in the downlink", async () => {
  const steps = (actingTail: number, more: object = {}) => start({ rounds: 2, fit: { localSteps: 3, actingTail }, ...more }).result;
  // In one of three steps, or in all.
  const [without, rarely, always] = [await steps(0), await steps(0.4), await steps(1)];
  expect(new Set([without.sha256, rarely.sha256, always.sha256]).size).toBe(3);
  expect(() => steps(0.3)).toThrow(/actingTail/);
  // Two clients of each rank; float32.
  const tails = 2 * [1, 2, 4, 8].reduce((sum, r) => sum + 4 * (8 - r) * always.layout.width, 0);
  for (const { metrics } of [rarely, always]) {
    for (const round of [1, 2]) expect(metrics[round]!.bytesDown - without.metrics[round]!.bytesDown).toBe(tails);
  }
  expect((await steps(1, { wire: { downlink: "bf16" } })).metrics[2]!.bytesDown).toBe(without.metrics[2]!.bytesDown / 2 + tails);
});

test("components that do not train stay as they are, and A and B learn at rates of their own", async () => {
  const seen: { readonly r: number; readonly rows: Float32Array }[] = [];
  const launcher = tinyLauncher({
    async fit({ train }) {
      const delta = await train();
      seen.push(delta);
      return delta;
    },
  });
  const fitOptions = ({ r }: RankedClient) => ({ components: [r - 1], lrA: 0 });
  await start({ rounds: 2, launcher, strategy: { aggregation: { ...segmentWise(), fitOptions } } }).result;
  expect(seen.length).toBeGreaterThan(2);
  for (const { r, rows } of seen) {
    for (let row = 0; row < r; row++) {
      expect(rows.subarray(16 * row, 16 * row + 8).every((value) => value === 0)).toBe(true);
      expect(rows.subarray(16 * row + 8, 16 * row + 16).every((value) => value === 0)).toBe(row < r - 1);
    }
  }
});

test("fit.maxGradNorm clips gradients, and their norm is reported", async () => {
  const plain = await start({ rounds: 1, fit: { localSteps: 2 } }).result;
  const loose = await start({ rounds: 1, fit: { localSteps: 2, maxGradNorm: 1e9 } }).result;
  const tight = await start({ rounds: 1, fit: { localSteps: 2, maxGradNorm: 1e-6 } }).result;
  expect(plain.metrics[1]).not.toHaveProperty("gradNorm");
  expect(loose.sha256).toBe(plain.sha256);
  expect(loose.metrics[1]?.gradNorm).toBeGreaterThan(0.01);
  const [before, after] = tight.metrics.map(lossesOf);
  for (const [index, loss] of (after ?? []).entries()) expect(loss).toBeCloseTo(before![index]!, 5);
});

test("fit.epochs gives each client as many steps as its examples take, and their number is reported", async () => {
  const steps = async (fit: object) => (await start({ rounds: 1, fit }).result).metrics[1]!;
  const one = await steps({ epochs: 1, batchSize: 1 });
  expect(one.steps).toBe(one.coverage[0]?.examples);
  expect(one.steps).toBeGreaterThan(one.reported.length);
  const half = await steps({ epochs: 0.5, batchSize: 10_000 });
  expect(half.steps).toBe(half.reported.length);
  expect(await steps({ localSteps: 1 })).not.toHaveProperty("steps");
});

test("a fit that diverges is refused for its values, as with a real worker", async () => {
  const run = start({ rounds: 1, fit: { localSteps: 8, lr: 1e36 } });
  await expect(run.result).rejects.toThrow(/not finite|NaN|Infinity/i);
});
