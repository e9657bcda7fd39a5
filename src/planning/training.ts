import { type Rates, ratesIn } from "../config/fit-spec.ts";
import type { RunConfig } from "../config/schema.ts";

/** With what clients would train. */
export interface PlannedTraining {
  readonly optimizer: string;
  /** Null for none. */
  readonly serverOptimizer: string | null;
  /** Examples per optimizer step. */
  readonly batchSize: number;
  /** Steps at the beginning of each fit over which its rates rise. */
  readonly warmupSteps: number;
  /** Of every round, from the first; a strategy may change those of a client. */
  readonly rates: readonly Rates[];
}

export function trainingOf({ fit, rounds, strategy }: RunConfig): PlannedTraining {
  const { serverOptimizer } = (strategy.aggregation.policy ?? {}) as { readonly serverOptimizer?: { readonly name: string } };
  return {
    optimizer: fit.optimizer.name,
    serverOptimizer: serverOptimizer?.name ?? null,
    batchSize: fit.batchSize * fit.gradientAccumulationSteps,
    warmupSteps: fit.warmupSteps,
    rates: Array.from({ length: rounds }, (_, index) => ratesIn(fit, index + 1, rounds)),
  };
}
