import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { buildRun, resolveTiers } from "../config/build.ts";
import { assignments, type Comparison, type ComparisonMethod, slug } from "../config/comparison.ts";
import { loadConfig } from "../config/load.ts";
import type { RunConfig } from "../config/schema.ts";
import { ConfigError, PrelortError, RunFailedError } from "../errors.ts";
import type { RecordedRun } from "../records/read-run.ts";
import { type Budget, type Outcome, outcomesOf, passesPerStep } from "./outcome.ts";
import { createRuns, type Runs, type RunsOptions } from "./runs.ts";

export interface CompareOptions extends RunsOptions {
  /** Overrides of the setting, as `--set` takes them, for every method. */
  readonly set?: readonly string[] | undefined;
}

/** What a comparison came to; `compare.json` is this. */
export interface ComparisonResult {
  readonly name: string;
  readonly reference: string;
  readonly seeds: readonly number[];
  readonly budgets: readonly Budget[];
  readonly tiers: readonly number[];
  /** By family; null where the setting's own is taken. */
  readonly learningRates: Readonly<Record<string, LearningRate>> | null;
  readonly outcomes: readonly Outcome[];
  /** Runs that failed, and why. */
  readonly missing: readonly string[];
}

export interface LearningRate {
  readonly chosen: number;
  readonly method: string;
  /** Mean loss over the tiers of each value tried; null where it was not finite. */
  readonly tried: readonly { readonly lr: number; readonly loss: number | null }[];
}

/**
 * Runs every method with every seed, at equal rounds and, where its steps cost more than plain ones, at equal
 * compute too. Every run is one of `prelort run`, in a folder below the comparison's; those that are there already,
 * of the same config, are kept, or gone on with: a comparison that was stopped goes on where it was.
 */
export async function compare(comparison: Comparison, options: CompareOptions = {}): Promise<ComparisonResult> {
  // Everything that is wrong with any of them comes before anything starts.
  await requireOneSetting(comparison, options);
  const refusal = new AbortController();
  const runs = createRuns(options, refusal);
  try {
    return await runAll(comparison, options, runs);
  } catch (error) {
    // The others were interrupted for it.
    throw refusal.signal.aborted ? refusal.signal.reason : error;
  }
}

async function runAll(comparison: Comparison, options: CompareOptions, runs: Runs): Promise<ComparisonResult> {
  const learningRates = await tune(comparison, options, runs);
  const missing: string[] = [];
  const outcomes = await allSettled(
    comparison.seeds.flatMap((seed) =>
      comparison.methods
        .filter((method) => method.seeds?.includes(seed) ?? true)
        .map(async (method) => {
          const lr = learningRates?.[method.family]?.chosen;
          const both = [`seed=${seed}`, ...(lr === undefined ? [] : [`fit.lr=${lr}`])];
          const run = async (budget: Budget, more: readonly string[]) => {
            const runName = `${slug(method.name)}.seed-${seed}${budget === "compute" ? ".equal-compute" : ""}`;
            const config = await configOf(comparison, method, options, [...both, ...more, `name=${runName}`]);
            try {
              const recorded = await runs.get(config);
              const { localSteps, lr: used } = config.fit;
              return { config, recorded, outcomes: outcomesOf({ method: method.name, seed, budget, lr: used, localSteps }, recorded) };
            } catch (error) {
              // One method that fails, or diverges, does not cost the others their results.
              if (!(error instanceof PrelortError) || error.kind === "interrupted" || error.kind === "config") throw error;
              missing.push(`${runName}: ${error.message}`);
              return undefined;
            }
          };
          const first = await run("rounds", []);
          const wantsCompute = comparison.budgets.includes("compute");
          const steps = first && wantsCompute ? stepsAtEqualCompute(first.config, first.recorded) : undefined;
          const second = steps === undefined ? undefined : await run("compute", [`fit.local_steps=${steps}`]);
          return [...(first?.outcomes ?? []), ...(second?.outcomes ?? [])];
        }),
    ),
  );
  const all = outcomes.flat();
  const tiers = all[0]?.byTier.map(({ r }) => r) ?? [];
  const { name, reference, seeds, budgets } = comparison;
  return { name, reference, seeds, budgets, tiers, learningRates, outcomes: all, missing: missing.toSorted() };
}

/** Local steps that cost what plain training's do; undefined where a step costs no more. */
function stepsAtEqualCompute({ fit: { localSteps } }: RunConfig, { rounds }: RecordedRun): number | undefined {
  const cost = passesPerStep(rounds, localSteps);
  return cost > 1 ? Math.max(1, Math.round(localSteps / cost)) : undefined;
}

async function configOf(
  { setting, name, runsDir }: Comparison,
  method: ComparisonMethod,
  { set = [] }: CompareOptions,
  more: readonly string[],
): Promise<RunConfig> {
  const place = `runs_dir=${JSON.stringify(path.join(runsDir, name))}`;
  return buildRun(await loadConfig(setting, { set: [...set, ...assignments(method), place, ...more] }));
}

/** As Promise.all, but rejects once nothing is under way any more: no worker outlives what it was started for. */
async function allSettled<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

/** Each family's learning rate, by the first of its methods. */
async function tune(comparison: Comparison, options: CompareOptions, runs: Runs): Promise<ComparisonResult["learningRates"]> {
  const { learningRates, methods } = comparison;
  if (!learningRates) return null;
  const { values, rounds, seed } = learningRates;
  const families = [...new Set(methods.map(({ family }) => family))];
  const entries = families.map(async (family) => {
    const method = methods.find((candidate) => candidate.family === family) as ComparisonMethod;
    const tried = await allSettled(
      values.map(async (lr) => {
        const more = [`seed=${seed}`, `rounds=${rounds}`, `fit.lr=${lr}`, `name=lr.${slug(family)}.${lr}`];
        return { lr, loss: await meanLoss(runs, await configOf(comparison, method, options, more)) };
      }),
    );
    const best = tried.reduce((one, other) => ((other.loss ?? Infinity) < (one.loss ?? Infinity) ? other : one));
    if (best.loss === null) throw new RunFailedError(`${method.name} diverged at every learning rate tried: ${values.join(", ")}`);
    return [family, { chosen: best.lr, method: method.name, tried }] as const;
  });
  return Object.fromEntries(await allSettled(entries));
}

/** After the last round, over the tiers. Null where it, or a client on the way, was not finite. */
async function meanLoss(runs: Runs, config: RunConfig): Promise<number | null> {
  try {
    const { rounds } = await runs.get(config);
    const losses = rounds.at(-1)?.byTier.map(({ loss }) => loss) ?? [];
    if (losses.includes(null) || rounds.some(({ failed }) => failed.length > 0)) return null;
    return losses.reduce<number>((sum, value) => sum + (value ?? 0), 0) / losses.length;
  } catch (error) {
    // A client that diverges in every try ends its run, not the others.
    if (error instanceof PrelortError && error.kind !== "interrupted" && error.kind !== "config") return null;
    throw error;
  }
}

/** Refuses a method that changes what all must share: the data, the model, the rounds, what is evaluated, the ranks there are. */
async function requireOneSetting(comparison: Comparison, options: CompareOptions): Promise<void> {
  const shared = comparison.methods.map(async (method) => {
    const { data, model, rounds, evaluate, lora, ...config } = await configOf(comparison, method, options, []);
    const { r, scale, target_modules } = lora;
    return {
      data,
      model,
      rounds,
      evaluate,
      "lora.r": r,
      "lora.scale": scale,
      "lora.target_modules": target_modules,
      tiers: resolveTiers({ lora, ...config }),
    };
  });
  const [first, ...others] = await Promise.all(shared);
  const issues = others.flatMap((other, place) =>
    Object.entries(other).flatMap(([key, value]) => {
      if (isDeepStrictEqual(value, first?.[key as keyof typeof first])) return [];
      const [one, two] = [comparison.methods[0]?.name, comparison.methods[place + 1]?.name];
      return [{ path: `methods[${place + 1}].set`, message: `"${two}" differs from "${one}" in ${key}, which all methods must share` }];
    }),
  );
  if (issues.length > 0) throw new ConfigError(issues);
}
