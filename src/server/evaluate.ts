import { type Adapter, prefix } from "../adapter/adapter.ts";
import { deriveSeed } from "../base/rng.ts";
import { inTurns } from "../base/turns.ts";
import type { RunConfig } from "../config/schema.ts";
import type { ExampleValues } from "../protocol/example-values.ts";
import type { RoundMetrics, TierMetrics } from "../records/metrics.ts";
import type { RankedClient, ServerState } from "../strategy/strategy.ts";
import { distribute, distributeTo } from "../strategy/validate-policy-output.ts";
import { bootstrap } from "./bootstrap.ts";
import { confusionOf } from "./confusion.ts";
import { type Evaluated, type Evaluation, type EvaluationPlace, evaluateShards } from "./evaluate-shards.ts";
import { figuresOf, tierMetrics } from "./figures.ts";

export interface EvaluateContext extends EvaluationPlace {
  /** The loss is per token, so e^loss is a perplexity. */
  readonly isLanguage: boolean;
  readonly config: Pick<RunConfig, "evaluate" | "seed" | "strategy">;
  /** Held out from all clients. */
  readonly evalExamples: number;
  /** Held out from each client's own examples, by its index; empty if nobody asks for them. */
  readonly ownExamples: Uint32Array;
}

/** A selection gets a candidate's loss on at most this many of its training examples. */
const ASKED_EXAMPLES = 64;

interface EvaluatedAdapter {
  readonly global: Adapter;
  readonly presented: Adapter;
  readonly state: ServerState;
  /** Whether text is generated, too. */
  readonly generates: boolean;
}

/**
 * Evaluates a round's adapter at every tier on the examples held out from all clients, and at each client's own rank on its own
 * held-out examples: there the client's own adapter, if the strategy distributes to each. If the strategy merges into the base
 * model, the merged model is evaluated, too.
 */
export async function evaluateRound(
  context: EvaluateContext,
  round: number,
  { global, presented, state, generates }: EvaluatedAdapter,
  clients: readonly RankedClient[],
): Promise<Pick<RoundMetrics, "byTier" | "merged" | "byClient" | "samples" | "confusion">> {
  const { config, layout, evalExamples, ownExamples } = context;
  const maxNewTokens = generates ? config.evaluate.maxNewTokens : 0;
  const samples = maxNewTokens > 0 ? config.evaluate.samples : 0;
  const everybody = { examples: "global", client_id: null, total: evalExamples, maxNewTokens } as const;
  const measured = clients.filter(({ index }) => (ownExamples[index] ?? 0) > 0);
  const [evaluated, merged, byClient] = await Promise.all([
    evaluateShards(context, { kind: "evaluate", round, ranks: layout.tiers, adapter: presented, samples, ...everybody }),
    global.merged
      ? evaluateShards(context, { kind: "evaluate-merged", round, ranks: [layout.r], adapter: global, ...everybody })
      : undefined,
    Promise.all(
      measured.map(async (client) => {
        const { id, index, r } = client;
        const total = ownExamples[index] ?? 0;
        const own = { examples: "client", client_id: id, total, maxNewTokens: 0 } as const;
        const adapter = distributeTo(config.strategy.aggregation, client, { global, layout, state }) ?? prefix(presented, layout, r);
        const [metrics] = await evaluate(context, { kind: "evaluate-client", round, ranks: [r], adapter, ...own });
        return { id, ...(metrics as TierMetrics) };
      }),
    ),
  ]);
  const tiers = await withIntervals(context, [...layout.tiers, layout.r], [...evaluated.values, ...(merged?.values ?? [])]);
  const confusion = confusions(layout.tiers, evaluated.values);
  return {
    byTier: tiers.slice(0, layout.tiers.length),
    merged: tiers[layout.tiers.length] ?? null,
    byClient,
    ...(samples > 0 && { samples: samplesOf(layout.tiers, evaluated) }),
    ...(confusion.length > 0 && { confusion }),
  };
}

/** Mean loss of what each candidate would start from, on its own training examples; Infinity if it is not finite. */
export async function candidateLosses(
  context: EvaluateContext,
  round: number,
  { global, state }: Pick<EvaluatedAdapter, "global" | "state">,
  candidates: readonly RankedClient[],
): Promise<readonly number[]> {
  const { config, layout } = context;
  return Promise.all(
    candidates.map(async (client) => {
      const { id, r, size } = client;
      const { aggregation } = config.strategy;
      const adapter = distributeTo(aggregation, client, { global, layout, state }) ?? distribute(aggregation, global, layout, r);
      const own = { examples: "train", client_id: id, total: Math.min(size, ASKED_EXAMPLES), maxNewTokens: 0 } as const;
      const [metrics] = await evaluate(context, { kind: "ask", round, ranks: [r], adapter, ...own });
      return metrics?.loss ?? Infinity;
    }),
  );
}

/** The figures at each rank, without intervals. */
async function evaluate(context: EvaluateContext, asked: Evaluation): Promise<readonly TierMetrics[]> {
  const { values } = await evaluateShards(context, asked);
  return values.map((each, place) => tierMetrics(asked.ranks[place] as number, each, context.isLanguage));
}

/**
 * Figures and what the examples allow for them. Each round draws the same examples, so that a run repeats to the byte and rounds can
 * be compared.
 */
async function withIntervals(
  { config, isLanguage }: EvaluateContext,
  ranks: readonly number[],
  values: readonly ExampleValues[],
): Promise<readonly TierMetrics[]> {
  const seed = deriveSeed(config.seed, "intervals");
  const figures = values.map((each) => figuresOf(each, isLanguage));
  const intervals = await inTurns(bootstrap(values[0]?.loss.length ?? 0, figures, { seed }));
  return values.map((each, place) => {
    const found = intervals[place] ?? [];
    return { ...tierMetrics(ranks[place] as number, each, isLanguage), ...(found.length > 0 && { intervals: found }) };
  });
}

/** At the smallest and the largest tier; empty without labels. */
function confusions(tiers: readonly number[], values: readonly ExampleValues[]): NonNullable<RoundMetrics["confusion"]> {
  const shown = [...new Set([0, tiers.length - 1])];
  return shown.flatMap((place) => {
    const labels = values[place]?.labels;
    return labels && labels.actual.length > 0 ? [{ r: tiers[place] as number, cells: confusionOf(labels) }] : [];
  });
}

function samplesOf(tiers: readonly number[], { told }: Evaluated): RoundMetrics["samples"] {
  return told.map(({ prompt, reference, answers }) => ({
    prompt,
    reference,
    answers: tiers.map((r, index) => ({ r, text: answers[index] ?? "" })),
  }));
}
