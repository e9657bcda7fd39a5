import type { BestSpec } from "./best-section.ts";
import type { CommonConfig } from "./sections.ts";

/** Metrics that prelort itself computes, as metrics.jsonl spells them, and whether lower or higher is better. */
const COMPUTED: Readonly<Record<string, "min" | "max">> = {
  loss: "min",
  perplexity: "min",
  accuracy: "max",
  macro_f1: "max",
  token_accuracy: "max",
  rouge_l: "max",
  exact_match: "max",
  bits_per_byte: "min",
  ece: "min",
};

/** Of generated text. */
export const OF_TEXT: readonly string[] = ["rouge_l", "exact_match"];

const OF_LANGUAGE = ["loss", "perplexity", "token_accuracy", "bits_per_byte", ...OF_TEXT];
const OF_CLASSES = ["loss", "accuracy", "macro_f1", "ece"];

/** Metrics of a built-in task; undefined for a task of one's own, which may have any. */
export function metricsOfTask(task: string): readonly string[] | undefined {
  switch (task) {
    case "causal-lm":
    case "seq2seq-lm":
      return OF_LANGUAGE;
    case "sequence-classification":
    case "image-classification":
      return OF_CLASSES;
    default:
      return undefined;
  }
}

/** Which values of the metric are better; undefined for one of the task's own without `mode`. */
export function modeOf({ metric, mode }: Pick<BestSpec, "metric" | "mode">): "min" | "max" | undefined {
  return computedMode(metric) ?? mode;
}

/** Undefined for a metric of the task's own. */
export function computedMode(metric: string): "min" | "max" | undefined {
  return Object.hasOwn(COMPUTED, metric) ? COMPUTED[metric] : undefined;
}

/**
 * Whether the evaluation of a round generates text. It is slow, so it is done before and after training only, unless the best round
 * depends on it: tasks may compute their own metrics from generated text.
 */
export function generatesText(
  {
    rounds,
    evaluate: { best, maxNewTokens },
  }: Pick<CommonConfig, "rounds"> & { readonly evaluate: Pick<CommonConfig["evaluate"], "best" | "maxNewTokens"> },
  round: number,
): boolean {
  if (maxNewTokens === 0) return false;
  const dependsOnText = best !== undefined && (OF_TEXT.includes(best.metric) || computedMode(best.metric) === undefined);
  return dependsOnText || round === 0 || round === rounds;
}
