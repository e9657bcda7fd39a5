import type { RunConfig } from "../config/schema.ts";
import { type Comparison, type ComparisonMethod, setsLearningRate, slug } from "../config/comparison.ts";
import type { RoundMetrics } from "../records/metrics.ts";
import type { LearningRates } from "./learning-rate-search.ts";
import { type Budget, passesPerStep } from "./outcome.ts";

/** A run that a comparison needs: a method with one seed. */
export interface PlannedRun {
  /** Name of the run's folder. */
  readonly name: string;
  readonly method: ComparisonMethod;
  readonly seed: number;
  readonly budget: Budget;
  /** What the run adds to the method's keys, as `--set` takes it. */
  readonly set: readonly string[];
}

/** The runs at equal rounds: every method with each of its seeds, at its family's learning rate or its own. */
export function plannedRuns(
  { seeds, methods }: Pick<Comparison, "seeds" | "methods">,
  learningRates: LearningRates,
): readonly PlannedRun[] {
  return seeds.flatMap((seed) =>
    methods
      .filter((method) => method.seeds?.includes(seed) ?? true)
      .map((method) => {
        const lr = setsLearningRate(method) ? undefined : learningRates?.[method.family]?.chosen;
        const set = [`seed=${seed}`, ...(lr === undefined ? [] : [`fit.lr=${lr}`])];
        return { name: `${slug(method.name)}.seed-${seed}`, method, seed, budget: "rounds" as const, set };
      }),
  );
}

/**
 * A finished run again, with as many local steps, or epochs, as cost what its own would cost in plain training; undefined if
 * its steps cost no more than plain ones.
 */
export function atEqualCompute(run: PlannedRun, fit: Length, rounds: readonly RoundMetrics[]): PlannedRun | undefined {
  const { localSteps, epochs } = fit;
  const cost = passesPerStep(rounds, localSteps);
  if (cost <= 1) return undefined;
  const affordable = epochs === undefined ? `fit.local_steps=${Math.max(1, Math.round(localSteps / cost))}` : `fit.epochs=${epochs / cost}`;
  return { ...run, name: `${run.name}.equal-compute`, budget: "compute", set: [...run.set, affordable] };
}

type Length = Pick<RunConfig["fit"], "localSteps" | "epochs">;
