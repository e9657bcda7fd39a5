import { type Adapter, prefix } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import type { RunConfig } from "../config/schema.ts";
import { RefusedError } from "../errors.ts";
import type { ControllerMessageOf, WorkerMessageOf } from "../protocol/messages.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import type { Span } from "../telemetry/telemetry.ts";
import { named, type Reply, type TaskIdentity, type WorkerPool } from "../workers/task.ts";
import { distribute } from "../strategy/validate-policy-output.ts";
import type { RoundMetrics, TierMetrics } from "../records/metrics.ts";

export interface EvaluateContext {
  /** The loss is per token, so e^loss is a perplexity. */
  readonly isLanguage: boolean;
  readonly config: Pick<RunConfig, "evaluate" | "strategy">;
  readonly pool: WorkerPool;
  readonly layout: AdapterLayout;
  /** Held out from all clients. */
  readonly evalExamples: number;
  /** Held out from each client's own examples, by its index; empty if nobody asks for them. */
  readonly ownExamples: Uint32Array;
  /** What the evaluation is a part of. */
  readonly span?: Span | undefined;
}

/** A selection gets a candidate's loss on at most this many of its training examples. */
const ASKED_EXAMPLES = 64;

interface EvaluatedAdapter {
  readonly global: Adapter;
  readonly presented: Adapter;
  /** Whether text is generated, too. */
  readonly generates: boolean;
}

/**
 * Evaluates a round's adapter at every tier on the examples held out from all clients, and at each client's own rank on its own
 * held-out examples. If the strategy merges into the base model, the merged model is evaluated, too.
 */
export async function evaluateRound(
  context: EvaluateContext,
  round: number,
  { global, presented, generates }: EvaluatedAdapter,
  clients: readonly RankedClient[],
): Promise<Pick<RoundMetrics, "byTier" | "merged" | "byClient" | "samples">> {
  const { config, layout, evalExamples, ownExamples } = context;
  const maxNewTokens = generates ? config.evaluate.maxNewTokens : 0;
  const samples = maxNewTokens > 0 ? config.evaluate.samples : 0;
  const everybody = { examples: "global", client_id: null, total: evalExamples, maxNewTokens } as const;
  const measured = clients.filter(({ index }) => (ownExamples[index] ?? 0) > 0);
  const [byTier, merged, byClient] = await Promise.all([
    evaluateShards(context, { kind: "evaluate", round, ranks: layout.tiers, adapter: presented, samples, ...everybody }),
    global.merged ? evaluate(context, { kind: "evaluate-merged", round, ranks: [layout.r], adapter: global, ...everybody }) : undefined,
    Promise.all(
      measured.map(async ({ id, index, r }) => {
        const total = ownExamples[index] ?? 0;
        const own = { examples: "client", client_id: id, total, maxNewTokens: 0 } as const;
        const adapter = prefix(presented, layout, r);
        const [metrics] = await evaluate(context, { kind: "evaluate-client", round, ranks: [r], adapter, ...own });
        return { id, ...(metrics as TierMetrics) };
      }),
    ),
  ]);
  const told = samples > 0 ? { samples: samplesOf(layout.tiers, byTier) } : {};
  return { byTier: byTier.tiers, merged: merged?.[0] ?? null, byClient, ...told };
}

/** Mean loss of each candidate's prefix on its own training examples; Infinity if it is not finite. */
export async function candidateLosses(
  context: EvaluateContext,
  round: number,
  global: Adapter,
  candidates: readonly RankedClient[],
): Promise<readonly number[]> {
  const { config, layout } = context;
  return Promise.all(
    candidates.map(async ({ id, r, size }) => {
      const adapter = distribute(config.strategy.aggregation, global, layout, r);
      const own = { examples: "train", client_id: id, total: Math.min(size, ASKED_EXAMPLES), maxNewTokens: 0 } as const;
      const [metrics] = await evaluate(context, { kind: "ask", round, ranks: [r], adapter, ...own });
      return metrics?.loss ?? Infinity;
    }),
  );
}

interface Evaluation extends Pick<ControllerMessageOf<"evaluate">, "examples" | "client_id"> {
  readonly kind: TaskIdentity["kind"];
  readonly round: number;
  readonly ranks: readonly number[];
  /** Has the largest of these ranks. */
  readonly adapter: Adapter;
  readonly total: number;
  readonly maxNewTokens: number;
  /** How many of the first examples to tell. */
  readonly samples?: number;
}

async function evaluate(context: EvaluateContext, asked: Evaluation): Promise<readonly TierMetrics[]> {
  return (await evaluateShards(context, asked)).tiers;
}

interface Evaluated {
  readonly tiers: readonly TierMetrics[];
  readonly told: WorkerMessageOf<"evaluated">["samples"];
}

/**
 * Evaluates an adapter's prefixes on `total` examples. Fixed shards go to whichever worker is free and are summed in shard
 * order, in f64, so the figures do not depend on which worker did which shard.
 */
async function evaluateShards(context: EvaluateContext, asked: Evaluation): Promise<Evaluated> {
  const { config, pool, layout, isLanguage, span } = context;
  const { kind, adapter, ranks, total, maxNewTokens, samples = 0, ...request } = asked;
  const identity = { kind, round: asked.round, ...(asked.client_id === null ? {} : { clientId: asked.client_id }) };
  const { shardSize, batchSize } = config.evaluate;
  const shards = Array.from({ length: Math.ceil(total / shardSize) }, async (_, shard) => {
    const start = shard * shardSize;
    const count = Math.min(shardSize, total - start);
    const told = shard === 0 ? Math.min(samples, count) : 0;
    const range = { start, count, batch_size: batchSize, max_new_tokens: maxNewTokens, samples: told };
    const reply = await pool.run<"evaluate">({
      ...named({ ...identity, part: shard }),
      request: { type: "evaluate", ...request, ranks: [...ranks], scale: layout.scale, ...range },
      payload: adapter,
      span,
      accept: (candidate) => checkShard(candidate, ranks, count, told),
      // After all fits, on the workers that they leave free.
      priority: count - Number.MAX_SAFE_INTEGER,
    });
    return reply.message;
  });
  const results = await Promise.all(shards);
  const tiers = ranks.map((r, index) => {
    const parts = results.map((shard) => shard.tiers[index]).filter((part) => part !== undefined);
    return measure(r, parts, isLanguage);
  });
  return { tiers, told: results.flatMap((shard) => shard.samples) };
}

function samplesOf(tiers: readonly number[], { told }: Evaluated): RoundMetrics["samples"] {
  return told.map(({ prompt, reference, answers }) => ({
    prompt,
    reference,
    answers: tiers.map((r, index) => ({ r, text: answers[index] ?? "" })),
  }));
}

type Part = WorkerMessageOf<"evaluated">["tiers"][number];

function measure(r: number, parts: readonly Part[], isLanguage: boolean): TierMetrics {
  const total = (value: (part: Part) => number | null) => parts.reduce<number | null>((sum, part) => plus(sum, value(part)), 0);
  const examples = total((part) => part.n_examples) ?? 0;
  const tokens = total((part) => part.n_tokens) ?? 0;
  const mean = (sum: number | null, count: number) => (sum === null || count === 0 ? null : sum / count);
  const loss = mean(
    total((part) => part.loss_sum),
    tokens,
  );
  const labels = parts.flatMap((part) => part.labels ?? []);
  const sums = (key: "hits" | "predicted" | "actual") =>
    (labels[0]?.[key] ?? []).map((_, label) => labels.reduce((sum, counts) => sum + (counts[key][label] ?? 0), 0));
  const [hits, predicted, actual] = [sums("hits"), sums("predicted"), sums("actual")];
  const right = hits.reduce((sum, count) => sum + count, 0);
  return {
    r,
    loss,
    perplexity: loss === null || !isLanguage ? null : finiteOrNull(Math.exp(loss)),
    accuracy: labels.length === 0 ? null : mean(right, examples),
    macroF1: labels.length === 0 ? null : macroF1(hits, predicted, actual),
    rougeL: mean(
      total((part) => part.rouge_l_sum),
      examples,
    ),
    own: Object.keys(parts[0]?.metrics ?? {}).map((name) => {
      const sum = total((part) => part.metrics[name] ?? null);
      return { name, value: mean(sum, examples) };
    }),
    examples,
  };
}

/** Mean F1 = 2·hits / (predicted + actual) over the labels that occur or were predicted. */
function macroF1(hits: readonly number[], predicted: readonly number[], actual: readonly number[]): number | null {
  const scores = hits.flatMap((hit, label) => {
    const seen = (predicted[label] ?? 0) + (actual[label] ?? 0);
    return seen > 0 ? [(2 * hit) / seen] : [];
  });
  return scores.length === 0 ? null : scores.reduce((sum, score) => sum + score, 0) / scores.length;
}

function checkShard({ message }: Reply<"evaluate">, ranks: readonly number[], count: number, told: number): void {
  const expected = ranks.map((r) => `${count} examples at rank ${r}`).join(", ");
  const received = message.tiers.map((tier) => `${tier.n_examples} examples at rank ${tier.r}`).join(", ");
  if (expected !== received) throw new RefusedError("an evaluation", expected, received);
  const answers = message.samples.map((sample) => sample.answers.length);
  if (answers.length !== told || answers.some((length) => length !== ranks.length))
    throw new RefusedError("an evaluation's samples", `${told}, each with ${ranks.length} answers`, `answers [${answers.join(", ")}]`);
}

function plus(sum: number | null, part: number | null): number | null {
  return sum === null || part === null ? null : sum + part;
}

function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
