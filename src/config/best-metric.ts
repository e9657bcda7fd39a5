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
  f1: "max",
  precision: "max",
  recall: "max",
  subset_accuracy: "max",
  rmse: "min",
  mae: "min",
  r2: "max",
  pearson: "max",
};

/** Of generated text. */
export const OF_TEXT: readonly string[] = ["rouge_l", "exact_match"];

const OF_LANGUAGE = ["loss", "perplexity", "token_accuracy", "bits_per_byte", ...OF_TEXT];
const OF_CLASSES = ["loss", "accuracy", "macro_f1", "ece"];
const OF_LABEL_SETS = ["loss", "f1", "precision", "recall", "subset_accuracy"];
const OF_NUMBERS = ["loss", "rmse", "mae", "r2", "pearson"];

/** Metrics of a built-in task; undefined for a task of one's own, which may have any. */
export function metricsOfTask({ task, problemType }: Pick<CommonConfig["model"], "task" | "problemType">): readonly string[] | undefined {
  switch (task) {
    case "causal-lm":
    case "seq2seq-lm":
      return OF_LANGUAGE;
    case "sequence-classification":
      return problemType === undefined ? OF_CLASSES : problemType === "regression" ? OF_NUMBERS : OF_LABEL_SETS;
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
