import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import type { RunConfig } from "../config/schema.ts";
import { RefusedError } from "../errors.ts";
import type { Reply, WorkerPool } from "../workers/task.ts";
import type { TierMetrics } from "./events.ts";

export interface EvaluateContext {
  readonly config: Pick<RunConfig, "evaluate" | "model">;
  readonly pool: WorkerPool;
  readonly layout: AdapterLayout;
  readonly evalExamples: number;
}

/**
 * The global adapter at every tier, on the held-out examples. Fixed shards go to whichever worker is free and
 * are summed in shard order, in f64: the numbers do not depend on who did what.
 */
export async function evaluateTiers(context: EvaluateContext, round: number, global: Adapter): Promise<readonly TierMetrics[]> {
  const { config, pool, layout, evalExamples } = context;
  const { shardSize, batchSize } = config.evaluate;
  const shards = Array.from({ length: Math.ceil(evalExamples / shardSize) }, async (_, shard) => {
    const start = shard * shardSize;
    const count = Math.min(shardSize, evalExamples - start);
    const reply = await pool.run<"evaluate">({
      id: `round-${round}/evaluate/${shard}`,
      request: { type: "evaluate", round, ranks: [...layout.tiers], scale: layout.scale, start, count, batch_size: batchSize },
      payload: global,
      accept: (candidate) => checkShard(candidate, layout.tiers, count),
      priority: count,
    });
    return reply.message.tiers;
  });
  const results = await Promise.all(shards);

  return layout.tiers.map((r, tier) => {
    let [loss, tokens, correct, examples]: [number | null, number, number | null, number] = [0, 0, 0, 0];
    for (const shard of results) {
      const part = shard[tier];
      if (!part) throw new Error("unreachable: accept has checked every tier of every shard");
      loss = plus(loss, part.loss_sum);
      tokens += part.n_tokens;
      correct = plus(correct, part.n_correct);
      examples += part.n_examples;
    }
    const mean = loss === null || tokens === 0 ? null : loss / tokens;
    const perplexity = mean === null || config.model.task !== "causal-lm" ? null : finiteOrNull(Math.exp(mean));
    return { r, loss: mean, perplexity, accuracy: correct === null ? null : correct / examples, examples };
  });
}

function checkShard({ message }: Reply<"evaluate">, tiers: readonly number[], count: number): void {
  const expected = tiers.map((r) => `${count} examples at rank ${r}`).join(", ");
  const received = message.tiers.map((tier) => `${tier.n_examples} examples at rank ${tier.r}`).join(", ");
  if (expected !== received) throw new RefusedError("an evaluation", expected, received);
}

function plus(sum: number | null, part: number | null): number | null {
  return sum === null || part === null ? null : sum + part;
}

function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
