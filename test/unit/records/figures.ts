import type { RoundMetrics, TrainedMetrics } from "../../../src/records/metrics.ts";

/** What training gave in a round in which nobody trained. */
export const nothingTrained: TrainedMetrics = {
  coverage: [],
  fitLoss: null,
  reported: [],
  failed: [],
  late: [],
  passes: 0,
  bytesDown: 0,
  bytesUp: 0,
};

/** The metrics of a round that was not evaluated. */
export function unevaluated(round: number, trained: TrainedMetrics = nothingTrained): RoundMetrics {
  return { round, byTier: [], merged: null, byClient: [], energy: [], ...trained };
}
