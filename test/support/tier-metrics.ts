import type { TierMetrics } from "../../src/records/metrics.ts";

const NOTHING: TierMetrics = {
  r: 1,
  loss: null,
  perplexity: null,
  accuracy: null,
  macroF1: null,
  rougeL: null,
  own: [],
  examples: 8,
  bitsPerByte: null,
  ece: null,
};

/** The figures of a tier; those that are left out were not measured. */
export function tierMetrics<F extends Partial<TierMetrics>>(r: number, figures: F): TierMetrics & F {
  return { ...NOTHING, r, ...figures };
}
