import { NOTHING_TRAINED, type RoundMetrics, type TrainedMetrics } from "../../../src/records/metrics.ts";

/** The metrics of a round that was not evaluated. */
export function unevaluated(round: number, trained: TrainedMetrics = NOTHING_TRAINED): RoundMetrics {
  return { round, byTier: [], merged: null, byClient: [], energy: [], ...trained };
}
