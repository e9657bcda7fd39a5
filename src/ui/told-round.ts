import type { RoundMetrics } from "../records/metrics.ts";
import type { ToldRound } from "../report/sample-answers.ts";

/** What a round's metrics say of the samples, and nothing else. */
export function toldRound({ round, samples = [] }: RoundMetrics): ToldRound {
  return { round, samples };
}
