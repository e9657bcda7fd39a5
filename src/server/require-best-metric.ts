import type { RunConfig } from "../config/schema.ts";
import { ConfigError } from "../errors.ts";
import { metricOf } from "../records/best-round.ts";
import type { RoundMetrics } from "../records/metrics.ts";

/** Those that every evaluation has a key for, which is null where the task does not yield them. */
const KEYED: readonly string[] = ["accuracy", "macro_f1", "rouge_l", "bits_per_byte", "ece"];

/** Throws a ConfigError if the task of one's own does not yield the metric of `evaluate.best`: only its evaluation shows which it has. */
export function requireBestMetric(
  { evaluate: { best, maxNewTokens } }: Pick<RunConfig, "evaluate">,
  { round, byTier }: Pick<RoundMetrics, "round" | "byTier">,
  isLanguage: boolean,
): void {
  const [tier] = byTier;
  // Of a model that diverged every figure is null.
  if (!best || !tier || tier.loss === null) return;
  const { metric } = best;
  const isThere =
    metric === "loss" ||
    (metric === "perplexity"
      ? isLanguage
      : KEYED.includes(metric)
        ? metricOf(tier, metric) !== null
        : metricOf(tier, metric) !== undefined);
  if (isThere) return;
  const computed = ["loss", ...(isLanguage ? ["perplexity"] : []), ...KEYED.filter((name) => metricOf(tier, name) !== null)];
  const known = [...computed, ...tier.own.map(({ name }) => name)];
  const text = isLanguage && maxNewTokens === 0 ? "; with evaluate.max_new_tokens: 0 it has none of generated text" : "";
  const message = `must be a metric that the task yields: round ${round} has ${known.join(", ")}${text}; got ${JSON.stringify(metric)}`;
  throw new ConfigError([{ path: "evaluate.best.metric", message }]);
}
