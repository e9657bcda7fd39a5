import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { generatesText } from "../../../src/config/best-metric.ts";
import type { BestSpec } from "../../../src/config/best-section.ts";
import { validateRun } from "../../../src/config/build.ts";
import { allClients, fedRoRA, listRanks, segmentWise } from "../../../src/index.ts";
import { candidateLosses, evaluateRound } from "../../../src/server/evaluate.ts";
import type { Adapter } from "../../../src/adapter/adapter.ts";
import type { Aggregation } from "../../../src/strategy/strategy.ts";
import type { Reply, Task, WorkerPool } from "../../../src/workers/task.ts";
import { clientsOf } from "../../../src/testing/index.ts";
import { examplesTensor } from "../../support/example-values.ts";

const layout = createLayout({ r: 2, tiers: [1, 2], scale: 1 }, { modules: [{ name: "m", in: 2, out: 2 }], dense: [] });
const config = validateRun({
  rounds: 3,
  model: { nameOrPath: "m", task: "causal-lm" },
  lora: { r: 2, tiers: [1, 2], target_modules: ["m"] },
  data: { path: "d", prompt: "{a}", answer: "{b}", clients: 1 },
  strategy: { selection: allClients(), rankAssignment: listRanks([2]), aggregation: segmentWise() },
  evaluate: { shardSize: 4, maxNewTokens: 16, samples: 3 },
});
const adapter = { r: 2, rows: new Float32Array(8), dense: new Float32Array(0) };

interface Options {
  readonly best?: BestSpec;
  readonly aggregation?: Aggregation;
  /** What the i-th of the examples' losses is at a rank. */
  readonly loss?: (example: number, r: number) => number;
  /** In which order the shards are answered. */
  readonly order?: (shards: number) => Iterable<number>;
  /** Changes the columns of a shard. */
  readonly damage?: (columns: Columns, start: number) => Columns;
}
type Columns = Parameters<typeof examplesTensor>[0];

/** Evaluates a round on 6 examples held out from all clients and 2 of the client's own, each with a ROUGE-L of 0.5. */
async function evaluate(
  round: number,
  { best, aggregation = segmentWise(), loss = () => 1, order, damage = (columns) => columns }: Options = {},
) {
  const asked: { examples: string; tokens: number; samples: number; adapter: Adapter | undefined }[] = [];
  const waiting: (() => void)[] = [];
  const pool = {
    async run(task: Task<"evaluate">) {
      const { examples, ranks, start, count, max_new_tokens: tokens, samples } = task.request;
      asked.push({ examples, tokens, samples, adapter: task.payload });
      const all = ranks.flatMap((r) => Array.from({ length: count }, (_, example) => loss(start + example, r)));
      const given = { loss: all, targets: all.map(() => 1), ...(tokens > 0 && { rouge_l: all.map(() => 0.5) }) };
      const { header, shape, bytes } = examplesTensor(damage(given, start));
      const told = Array.from({ length: samples }, (_, index) => ({
        prompt: `p${index}`,
        reference: `t${index}`,
        answers: ranks.map((r) => `a${index} at ${r}`),
      }));
      if (order) await new Promise<void>((resolve) => waiting.push(resolve));
      const message = { ...header, samples: told };
      const reply = { message, payload: { examples: { dtype: "F64", length: bytes.length / 8, bytes } } } as unknown as Reply<"evaluate">;
      expect((task.expect as (message: unknown) => unknown)(message)).toEqual({ examples: shape });
      await task.accept?.(reply);
      return reply;
    },
  } as unknown as WorkerPool;
  const clients = clientsOf([{ r: 2 }]);
  const ownExamples = Uint32Array.from(clients, () => 2);
  const evaluated = evaluateRound(
    {
      config: { ...config, strategy: { ...config.strategy, aggregation } },
      pool,
      layout,
      labels: 0,
      isLanguage: true,
      evalExamples: 6,
      ownExamples,
    },
    round,
    {
      global: adapter,
      presented: adapter,
      state: { last: Float32Array.of(7) },
      generates: generatesText({ ...config, evaluate: { ...config.evaluate, best } }, round),
    },
    clients,
  );
  for (const place of order?.(waiting.length) ?? []) {
    waiting[place]?.();
    await setImmediate();
  }
  const metrics = await evaluated;
  return { asked, rougeL: metrics.byTier.map((tier) => tier.rougeL), samples: metrics.samples, metrics };
}

test("answers are generated only before the first and after the last round, on the examples held out from all clients", async () => {
  const own = { examples: "client", tokens: 0, samples: 0 };
  // Of the first shard of four examples alone.
  const generating = [3, 0].map((samples) => ({ examples: "global", tokens: 16, samples }));
  const samples = [0, 1, 2].map((index) => ({
    prompt: `p${index}`,
    reference: `t${index}`,
    answers: [1, 2].map((r) => ({ r, text: `a${index} at ${r}` })),
  }));
  for (const round of [0, 3]) expect(await evaluate(round)).toMatchObject({ asked: [...generating, own], rougeL: [0.5, 0.5], samples });
  const silent = { examples: "global", tokens: 0, samples: 0 };
  for (const round of [1, 2])
    expect(await evaluate(round)).toMatchObject({ asked: [silent, silent, own], rougeL: [null, null], samples: undefined });
});

test("answers are generated at every evaluation if the best round depends on them", async () => {
  const generating = [3, 0].map((samples) => ({ examples: "global", tokens: 16, samples }));
  const own = { examples: "client", tokens: 0, samples: 0 };
  for (const best of [
    { metric: "rouge_l", at: "area" },
    { metric: "mine", at: 1, mode: "max" },
  ] as const)
    expect(await evaluate(1, { best })).toMatchObject({ asked: [...generating, own], rougeL: [0.5, 0.5] });
  expect((await evaluate(1, { best: { metric: "loss", at: "area" } })).rougeL).toEqual([null, null]);
});

test("each tier has the mean over all examples with its interval, a client's own has none, whatever the order of arrival", async () => {
  // At rank 2 every example is better by 1 than at rank 1.
  const loss = (example: number, r: number) => 10 ** (example - 3) - r;
  const { metrics } = await evaluate(1, { loss });
  const [low, high] = metrics.byTier;
  expect(low?.loss).toBeCloseTo(111.111 / 6 - 1, 12);
  expect(low?.intervals?.map(({ name }) => name)).toEqual(["loss", "perplexity"]);
  const [below, above] = [low?.intervals?.[0], high?.intervals?.[0]];
  expect(below?.low).toBeLessThan(low?.loss ?? 0);
  expect(below?.high).toBeGreaterThan(low?.loss ?? 0);
  // The same draws at both ranks.
  expect((below?.low ?? 0) - (above?.low ?? 0)).toBeCloseTo(1, 10);
  expect((below?.high ?? 0) - (above?.high ?? 0)).toBeCloseTo(1, 10);
  expect(metrics.byClient).toMatchObject([{ id: "c0", examples: 2 }]);
  expect(metrics.byClient[0]).not.toHaveProperty("intervals");
  const reversed = await evaluate(2, { loss, order: (shards) => Array.from({ length: shards }, (_, place) => shards - 1 - place) });
  expect(reversed.metrics).toEqual(metrics);
});

test("a shard whose columns differ from those of the others is refused", async () => {
  const damage = (columns: Columns, start: number): Columns =>
    start === 4 ? { ...columns, bytes: columns.loss?.map(() => 1) ?? [] } : columns;
  await expect(evaluate(1, { damage })).rejects.toThrow(/\bother shards, loss, targets\b.*\bloss, targets, bytes$/);
});

test("a client's own examples are evaluated with its own adapter if the aggregation distributes to each client", async () => {
  const own = (rows: number) => ({ r: 2, rows: new Float32Array(8).fill(rows), dense: new Float32Array(0) });
  const aggregation: Aggregation = { ...segmentWise(), distributeTo: ({ index }, { state }) => own(index + state["last"]![0]!) };
  const { asked } = await evaluate(1, { aggregation });
  expect(asked.map(({ examples, adapter }) => [examples, adapter?.rows[0]])).toEqual([
    ["global", 0],
    ["global", 0],
    ["client", 7],
  ]);
});

test("a candidate is asked for the loss of what it would start from: its own adapter where the strategy has one for each client", async () => {
  const asked: (Adapter | undefined)[] = [];
  const pool = {
    run(task: Task<"evaluate">) {
      asked.push(task.payload);
      return Promise.reject(new Error("that is all"));
    },
  } as Partial<WorkerPool> as WorkerPool;
  const clients = clientsOf([
    { r: 1, size: 4 },
    { r: 1, size: 4 },
  ]);
  const global = { ...adapter, rows: Float32Array.of(1, 0, 1, 0, 0, 1, 0, 1) };
  // Client c0 has most of the second direction; nothing is known of the other.
  const state = { "magnitudes/c0": Float32Array.of(0, 1) };
  const own = {
    config: { ...config, strategy: { ...config.strategy, aggregation: fedRoRA() } },
    pool,
    layout,
    labels: 0,
    isLanguage: true,
  };
  const context = { ...own, evalExamples: 0, ownExamples: new Uint32Array(2) };
  await expect(candidateLosses(context, 1, { global, state }, clients)).rejects.toThrow("that is all");
  expect(asked.map((each) => [...(each?.rows ?? [])])).toEqual([
    [0, 1, 0, 1],
    [1, 0, 1, 0],
  ]);
});
